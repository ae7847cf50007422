"""How mixers without a convolution keep their state in the library's caches."""

from typing import Any

import torch
from transformers.cache_utils import Cache


def read_recurrent_states(past_key_values: Cache, layer_idx: int, count: int) -> tuple[torch.Tensor, ...] | None:
    """The first `count` states of a layer; None before the first forward pass."""
    states = [past_key_values.get_recurrent_state(layer_idx, index) for index in range(count)]
    present = tuple(state for state in states if state is not None)
    return present or None


def keep_recurrent_state(past_key_values: Cache, state: torch.Tensor, layer_idx: int, state_idx: int = 0) -> None:
    """Writes a state that the next forward pass reads: the cache marks only those that stand beside a convolution."""
    past_key_values.update_recurrent_state(state, layer_idx, state_idx)
    layer: Any = past_key_values.layers[layer_idx]
    layer.has_previous_state[state_idx] = True
