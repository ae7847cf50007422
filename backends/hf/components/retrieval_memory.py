"""Retrieval memory: pairs of keys and values that are looked up (Wu et al. 2022, "Memorizing Transformers")."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.memory_states import (
    chunk_slots,
    from_slots,
    keep_memory_states,
    memory_states,
    to_slots,
)


def look_up(scores: torch.Tensor, values: torch.Tensor, top_k: int) -> torch.Tensor:
    """The values of the `top_k` pairs of the best scores, weighed by a softmax over these.

    `scores` is (..., queries, pairs), minus infinity where a pair may not be read, `values` (..., pairs, width).
    """
    best = scores.topk(top_k, dim=-1)
    weights = torch.zeros_like(scores).scatter(-1, best.indices, best.values.softmax(dim=-1))
    return weights @ values


class RetrievalMemory(nn.Module):
    """The pairs of the last tokens, of which every token reads those whose keys fit its query best.

    They are states of the sequence; `initial_keys` and `initial_values` stand there at the start, and make way.
    """

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.num_slots = sizes.memory_slots
        self.top_k = sizes.memory_top_k
        if config.update_at_inference:
            self.state_names = ("keys", "values")
            self.first_state = config.first_memory_state
            self.persistence = config.memory_persistence

        width = sizes.memory_hidden_size
        self.initial_keys = nn.Parameter(torch.empty(self.num_slots, width))
        self.initial_values = nn.Parameter(torch.empty(self.num_slots, width))
        if config.memory_persistence == "persistent":
            self.committed = {"keys": "keys", "values": "values"}
            self.memory_state_keys = nn.Buffer(torch.zeros(self.num_slots, width, dtype=torch.float32))
            self.memory_state_values = nn.Buffer(torch.zeros(self.num_slots, width, dtype=torch.float32))
        self.q_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        queries = self.q_proj(hidden_states).float()
        queries = queries * queries.shape[-1] ** -0.5
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
            output = look_up(queries @ self.initial_keys.float().T, self.initial_values.float(), self.top_k)
        return self.o_proj(output.to(hidden_states.dtype))

    def learn(
        self,
        hidden_states: torch.Tensor,
        queries: torch.Tensor,
        attention_mask: torch.Tensor | None,
        states: list[torch.Tensor] | None,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """What the memory gives for the queries, each before its own token, and the pairs behind the last.

        A token stores its pair in place of the oldest one; padding stores nothing. A block of tokens meets the pairs
        that its first token reads, and its own; of these each token reads `num_slots`.
        """
        batch_size, seq_len, _ = hidden_states.shape
        block = min(seq_len, self.num_slots)
        length = -(-seq_len // block) * block
        states = self.initial_states(batch_size) if states is None else states
        present = torch.ones_like(queries[..., 0]) if attention_mask is None else attention_mask
        present = present.long()
        slots = chunk_slots(present, queries.new_zeros(batch_size), length)
        pairs = [self.k_proj(hidden_states).float(), self.v_proj(hidden_states).float()]
        queries, *pairs = (to_slots(part, slots, length) for part in (queries, *pairs))
        keys, values = (torch.cat(parts, dim=1) for parts in zip(states, pairs, strict=True))

        queries = queries.unflatten(1, (-1, block))
        met_keys, met_values = (part.unfold(1, self.num_slots + block, block) for part in (keys, values))
        distance = torch.arange(self.num_slots + block, device=queries.device)
        distance = distance - torch.arange(block, device=queries.device)[:, None]
        unread = (distance < 0) | (distance >= self.num_slots)
        scores = (queries @ met_keys).masked_fill(unread, -torch.inf)
        output = look_up(scores, met_values.transpose(-1, -2), self.top_k).flatten(1, 2)

        newest = present.sum(dim=-1, keepdim=True) + torch.arange(self.num_slots, device=queries.device)
        return from_slots(output, slots), [from_slots(keys, newest), from_slots(values, newest)]

    def initial_states(self, batch_size: int) -> list[torch.Tensor]:
        """The states of `batch_size` sequences before their first token."""
        keys, values = self.initial_keys.float(), self.initial_values.float()
        if self.config.memory_persistence == "persistent":
            keys, values = keys + self.memory_state_keys, values + self.memory_state_values
        return [state.expand(batch_size, -1, -1) for state in (keys, values)]
