"""Neural memory (Behrouz et al. 2025, "Titans: Learning to Memorize at Test Time")."""

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


def recall(weights: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """What a network gives for queries (batch, tokens, width), without a trace in it (eq. 15).

    `weights` (batch, 2, hidden, width) are those of its layers, SiLU between them.
    """
    return nn.functional.silu(queries @ weights[:, 0].transpose(-1, -2)) @ weights[:, 1]


def memorize(
    weights: torch.Tensor,
    pending: torch.Tensor,
    momentum: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    rates: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Learns a piece of a chunk, whose gradients are those of `weights`: what the chunk began with (eqs. 16 to 18).

    `pending` and `momentum` are the weights and the momentum before the piece; the result is those behind it. All are
    (batch, 2, hidden, width), `keys` and `values` (batch, tokens, width). `rates` (batch, tokens, 4) holds the
    logarithm of what a token keeps of the weights, ln(1 - alpha), and of the momentum, ln eta, its learning rate,
    theta, and whether it is there at all: one that is not changes nothing.
    """
    log_keep, log_momentum, step, present = rates.unbind(dim=-1)
    inner = keys @ weights[:, 0].transpose(-1, -2)
    gate = inner.sigmoid()
    active = inner * gate
    # The gradient of |M(k) - v|^2 (eq. 12) by a layer's weights is an outer product of two vectors a token
    error = 2 * (active @ weights[:, 1] - values)
    inner_error = (error @ weights[:, 1].transpose(-1, -2)) * gate * (1 + inner * (1 - gate))
    left, right = torch.stack((inner_error, active), dim=1), torch.stack((keys, error), dim=1)

    # S[i] = eta[i] S[i-1] - theta[i] gradient[i] (eq. 14), M[i] = (1 - alpha[i]) M[i-1] + S[i] (eq. 13), unrolled
    log_keep, log_momentum = log_keep.cumsum(dim=-1), log_momentum.cumsum(dim=-1)
    kept = (log_keep[:, -1:] - log_keep).exp() * present
    ahead = torch.ones(kept.shape[1], kept.shape[1], dtype=torch.bool, device=kept.device).triu(diagonal=1)
    between = (log_momentum[:, :, None] - log_momentum[:, None, :]).masked_fill(ahead, -torch.inf).exp()
    to_momentum = (step * between[:, -1])[:, None, :, None]
    to_weights = (step * (kept[:, :, None] * between).sum(dim=1))[:, None, :, None]
    from_momentum = (kept * log_momentum.exp()).sum(dim=-1)[:, None, None, None]

    pending = log_keep[:, -1, None, None, None].exp() * pending + from_momentum * momentum
    pending = pending - (left * to_weights).transpose(-1, -2) @ right
    momentum = log_momentum[:, -1, None, None, None].exp() * momentum
    return pending, momentum - (left * to_momentum).transpose(-1, -2) @ right


class NeuralMemory(nn.Module):
    """A network that learns to give values for keys while it reads, and is asked by queries (section 3).

    Its weights, with and without the chunk that has not ended, its momentum and how many tokens that chunk has are
    states of the sequence; `initial_weights` are those at the start.
    """

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.chunk_size = sizes.memory_chunk_size
        self.inner_lr = sizes.memory_inner_lr
        if config.update_at_inference:
            self.state_names = ("weights", "pending", "momentum", "filled")
            self.first_state = config.first_memory_state
            self.persistence = config.memory_persistence

        shape = (2, sizes.memory_hidden_size, config.hidden_size)
        self.initial_weights = nn.Parameter(torch.empty(shape))
        if config.memory_persistence == "persistent":
            self.committed = {"weights": "pending", "momentum": "momentum"}
            self.memory_state_weights = nn.Buffer(torch.zeros(shape, dtype=torch.float32))
            self.memory_state_momentum = nn.Buffer(torch.zeros(shape, dtype=torch.float32))
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.forget_proj = nn.Linear(config.hidden_size, 1)
        self.momentum_proj = nn.Linear(config.hidden_size, 1)
        self.step_proj = nn.Linear(config.hidden_size, 1)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        queries = nn.functional.silu(self.q_proj(hidden_states))
        queries = nn.functional.normalize(queries, dim=-1).float()
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
            output = recall(self.initial_weights.float()[None], queries)
        return self.o_proj(output.to(hidden_states.dtype))

    def learn(
        self,
        hidden_states: torch.Tensor,
        queries: torch.Tensor,
        attention_mask: torch.Tensor | None,
        states: list[torch.Tensor] | None,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """What the memory gives for the queries, each as of the last chunk before its own, and the states behind.

        Chunks begin where the sequence does, and padding is no part of them.
        """
        seq_len = hidden_states.shape[1]
        # Without states the first chunk is empty; else the tokens may fill that up and reach into one more
        longest = seq_len if states is None else seq_len + self.chunk_size - 1
        length = 1 if seq_len == 1 else -(-longest // self.chunk_size) * self.chunk_size
        states = self.initial_states(hidden_states.shape[0]) if states is None else states
        weights, pending, momentum, filled = states

        present = torch.ones_like(queries[..., 0]) if attention_mask is None else attention_mask
        present = present.long()
        slots = chunk_slots(present, filled, length) if seq_len > 1 else (present == 0).long()
        laid = [to_slots(part, slots, length) for part in (queries, *self.lessons(hidden_states, present))]
        filled = filled + present.sum(dim=-1)

        outputs = []
        chunks = zip(*(part.split(self.chunk_size, dim=1) for part in laid), strict=True)
        for number, (query, key, value, rates) in enumerate(chunks, start=1):
            outputs.append(recall(weights, query))
            pending, momentum = memorize(weights, pending, momentum, key, value, rates)
            has_ended = (filled >= number * self.chunk_size)[:, None, None, None]
            weights = torch.where(has_ended, pending, weights)
        output = from_slots(torch.cat(outputs, dim=1), slots)
        return output, [weights, pending, momentum, filled % self.chunk_size]

    def lessons(
        self, hidden_states: torch.Tensor, present: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys and values (batch, length, width) and the rates that `memorize` takes, in float32."""
        keys = nn.functional.silu(self.k_proj(hidden_states))
        values = nn.functional.silu(self.v_proj(hidden_states))
        forget, momentum = self.forget_proj(hidden_states).float(), self.momentum_proj(hidden_states).float()
        step = self.inner_lr * self.step_proj(hidden_states).float().sigmoid()
        rates = (nn.functional.logsigmoid(-forget), nn.functional.logsigmoid(momentum), step, present[..., None])
        return nn.functional.normalize(keys, dim=-1).float(), values.float(), torch.cat(rates, dim=-1)

    def initial_states(self, batch_size: int) -> list[torch.Tensor]:
        """The states of `batch_size` sequences before their first token."""
        weights = self.initial_weights.float()
        momentum = torch.zeros_like(weights)
        if self.config.memory_persistence == "persistent":
            weights = weights + self.memory_state_weights
            momentum = momentum + self.memory_state_momentum
        weights, momentum = (state.expand(batch_size, -1, -1, -1) for state in (weights, momentum))
        return [weights, weights, momentum, weights.new_zeros(batch_size)]
