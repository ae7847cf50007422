"""What convolutions over the whole sequence have read, in the library's caches: in the place of keys and values."""

from typing import Any

import torch
from transformers.cache_utils import Cache


def joined(past: torch.Tensor | None, new: torch.Tensor, positions: torch.Tensor, has_room: bool) -> torch.Tensor:
    """Past and new tokens in one tensor, (..., length, channels); the new ones stand at `positions`, (new,).

    A past that `has_room`, that of a static cache, is as long as it will ever be.
    """
    if past is None:
        return new
    if has_room:
        return past.index_copy(-2, positions, new)
    return torch.cat([past, new], dim=-2)


def cached_inputs(
    past_key_values: Cache | None, layer_idx: int
) -> tuple[torch.Tensor | None, torch.Tensor | None, int | torch.Tensor, bool]:
    """Inputs, (batch, depth, length, channels), and taps, (depth, length, channels), of a layer.

    With them how many tokens they are of, and whether they have room for more.
    """
    layer: Any = None if past_key_values is None else past_key_values.layers[layer_idx]
    if layer is None or not layer.is_initialized:
        return None, None, 0, False
    return layer.keys, layer.values[0], layer.get_seq_length(), layer.is_compileable
