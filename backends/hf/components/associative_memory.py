"""Associative memory: a matrix of outer products (Schmidhuber 1992; Ba et al. 2016, "Using Fast Weights")."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.memory_states import keep_memory_states, memory_states


def associate(
    memory: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    log_keep: torch.Tensor,
    step: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A[t] = keep[t] A[t-1] + step[t] k[t] v[t]^T (Ba et al. 2016, eq. 1), read at once: q[t] A[t].

    `memory` is A before the first token, (batch, width, width); queries, keys and values are (batch, tokens, width),
    `log_keep` and `step` (batch, tokens). Gives what is read, and A behind the last token.
    """
    log_keep = log_keep.cumsum(dim=-1)
    ahead = torch.ones(keys.shape[1], keys.shape[1], dtype=torch.bool, device=keys.device).triu(diagonal=1)
    between = (log_keep[:, :, None] - log_keep[:, None, :]).masked_fill(ahead, -torch.inf).exp() * step[:, None]
    output = ((queries @ keys.transpose(-1, -2)) * between) @ values
    output = output + (queries * log_keep.exp()[..., None]) @ memory
    added = (keys * between[:, -1, :, None]).transpose(-1, -2) @ values
    return output, log_keep[:, -1, None, None].exp() * memory + added


class AssociativeMemory(nn.Module):
    """A matrix of what belongs to what, which fades as tokens say and is asked by queries.

    It is a state of the sequence; `initial_memory` is the matrix at the start.
    """

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.chunk_size = sizes.memory_chunk_size
        self.inner_lr = sizes.memory_inner_lr
        if config.update_at_inference:
            self.state_names = ("memory",)
            self.first_state = config.first_memory_state
            self.persistence = config.memory_persistence

        width = sizes.memory_hidden_size
        self.initial_memory = nn.Parameter(torch.empty(width, width))
        if config.memory_persistence == "persistent":
            self.committed = {"memory": "memory"}
            self.memory_state_memory = nn.Buffer(torch.zeros(width, width, dtype=torch.float32))
        self.q_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)
        self.forget_proj = nn.Linear(config.hidden_size, 1)
        self.step_proj = nn.Linear(config.hidden_size, 1)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        queries = nn.functional.normalize(nn.functional.silu(self.q_proj(hidden_states)), dim=-1).float()
        if self.config.update_at_inference:
            layer_idx = cache_slot if self.config.shared_module else self.layer_idx
            states = None
            if past_key_values is not None:
                states = memory_states(past_key_values, layer_idx, self.first_state, len(self.state_names))
            output, states = self.learn(hidden_states, queries, attention_mask, states)
            if past_key_values is not None:
                keep_memory_states(past_key_values, states, layer_idx, self.first_state)
        elif self.training:
            output, _ = self.learn(hidden_states, queries, attention_mask, None)
        else:
            output = queries @ self.initial_memory.float()
        return self.o_proj(output.to(hidden_states.dtype))

    def learn(
        self,
        hidden_states: torch.Tensor,
        queries: torch.Tensor,
        attention_mask: torch.Tensor | None,
        states: list[torch.Tensor] | None,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """What the memory gives for the queries, each behind its own token, and the matrix behind the last."""
        (memory,) = self.initial_states(hidden_states.shape[0]) if states is None else states
        keys = nn.functional.normalize(nn.functional.silu(self.k_proj(hidden_states)), dim=-1).float()
        values = nn.functional.silu(self.v_proj(hidden_states)).float()
        log_keep = nn.functional.logsigmoid(-self.forget_proj(hidden_states).float()).squeeze(-1)
        step = self.inner_lr * self.step_proj(hidden_states).float().sigmoid().squeeze(-1)
        if attention_mask is not None:
            log_keep, step = log_keep * attention_mask, step * attention_mask
        outputs = []
        parts = (part.split(self.chunk_size, dim=1) for part in (queries, keys, values, log_keep, step))
        for chunk in zip(*parts, strict=True):
            output, memory = associate(memory, *chunk)
            outputs.append(output)
        return torch.cat(outputs, dim=1), [memory]

    def initial_states(self, batch_size: int) -> list[torch.Tensor]:
        """The states of `batch_size` sequences before their first token."""
        memory = self.initial_memory.float()
        if self.config.memory_persistence == "persistent":
            memory = memory + self.memory_state_memory
        return [memory.expand(batch_size, -1, -1)]
