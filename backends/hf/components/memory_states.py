"""Where memories keep what they learn of a sequence, and where its tokens stand in their chunks."""

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache

from eulerc.backends.hf.components.recurrent_state import keep_recurrent_state


def memory_states(past_key_values: Cache, layer_idx: int, first: int, count: int) -> list[torch.Tensor] | None:
    """The states of a memory, which are `count` of the layer's, from the `first` on; None where it has none yet."""
    states = (past_key_values.get_recurrent_state(layer_idx, first + index) for index in range(count))
    return [state for state in states if state is not None] or None


def keep_memory_states(past_key_values: Cache, states: Sequence[torch.Tensor], layer_idx: int, first: int) -> None:
    """Writes the states of a memory, for the next forward pass to read."""
    for index, state in enumerate(states):
        keep_recurrent_state(past_key_values, state, layer_idx, first + index)


def chunk_slots(present: torch.Tensor, filled: torch.Tensor, length: int) -> torch.Tensor:
    """Where tokens stand, counted from the start of the first chunk, (batch, length of the input).

    `present` (batch, length of the input) is 0 at padding, which does not count and gets the slot `length`, behind all
    others; `filled` (batch,) counts the tokens of the first chunk that have been read before.
    """
    slots = filled.long()[:, None] + present.cumsum(dim=-1) - 1
    return torch.where(present > 0, slots, length)


def to_slots(states: torch.Tensor, slots: torch.Tensor, length: int) -> torch.Tensor:
    """Puts (batch, length of the input, channels) into `length` slots; those that no token takes are zeros."""
    laid = states.new_zeros(states.shape[0], length + 1, states.shape[-1])
    return laid.scatter(1, slots[..., None].expand_as(states), states)[:, :length]


def from_slots(states: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """Takes (batch, slots, channels) back to the places of the input; at padding stands what means nothing."""
    index = slots.clamp(max=states.shape[1] - 1)[..., None]
    return states.gather(1, index.expand(-1, -1, states.shape[-1]))
