"""Blocks of tokens that end within a forward pass, and how they are kept in the library's caches.

Positions count from the first token of each row's sequence, padding left out, so that blocks begin where they would
without padding. Block i holds the tokens from i * stride - lead on, and can be read once the last of them has passed.
"""

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache


def first_positions(position_ids: torch.Tensor, padding_mask: torch.Tensor | None) -> torch.Tensor:
    """The position of the first column of this pass, (batch,) or (1,); below 0 where a row begins with padding."""
    if padding_mask is None:
        return position_ids[:, 0]
    padding = (padding_mask.cumsum(dim=-1) == 0).sum(dim=-1).clamp(max=padding_mask.shape[-1] - 1)
    position_ids = position_ids.expand(padding_mask.shape[0], -1)
    return position_ids.gather(1, padding[:, None]).squeeze(1) - padding


def with_earlier_tokens(
    states: torch.Tensor,
    length: int,
    past_key_values: Cache | None,
    layer_idx: int,
    state_idx: int,
) -> torch.Tensor:
    """States (batch, tokens, channels) behind those of the `length` tokens before; zeros before the first."""
    earlier = past_key_values.get_conv_state(layer_idx, state_idx) if past_key_values is not None else None
    if earlier is None:
        states = nn.functional.pad(states, (0, 0, length, 0))
    else:
        states = torch.cat((earlier.transpose(1, 2).to(states.dtype), states), dim=1)
    if past_key_values is not None:
        past_key_values.update_conv_state(states[:, -length:].transpose(1, 2), layer_idx, state_idx)
    return states


def ending_blocks(first: torch.Tensor, tokens: int, needed: int, stride: int) -> torch.Tensor:
    """The numbers of the blocks that may end among `tokens` tokens, (batch, blocks); block 0 ends `needed` tokens in.

    Those of other passes are among them: numbers below 0, and blocks that have not ended.
    """
    count = (tokens - 1) // stride + 1
    start = (first - needed + stride).div(stride, rounding_mode="floor")
    return start[:, None] + torch.arange(count, device=first.device)


def merged_blocks(
    ending: torch.Tensor,
    numbers: torch.Tensor,
    kept: int,
    past_key_values: Cache | None,
    layer_idx: int,
    state_idx: int,
    earlier: torch.Tensor | None,
) -> torch.Tensor:
    """The first `kept` blocks (batch, heads, kept, width): those of earlier passes, and `ending` from here on.

    One at least, which nobody sees before its end.
    """
    batch_size, heads, _, width = ending.shape
    count = max(kept, 1)
    places = (torch.arange(count, device=ending.device) - numbers[:, :1])[:, None, :, None]
    blocks = ending
    if ending.shape[2] > 1 or earlier is None:
        index = places.clamp(0, ending.shape[2] - 1).expand(batch_size, heads, -1, width)
        blocks = ending.gather(2, index)
    if earlier is not None:
        if earlier.shape[2] < count:
            earlier = nn.functional.pad(earlier, (0, 0, 0, count - earlier.shape[2]))
        blocks = torch.where(places < 0, earlier, blocks)
    if past_key_values is not None:
        # It grows with the sequence, so it is set and not copied into a state of fixed shape
        layer: Any = past_key_values.layers[layer_idx]
        layer.recurrent_states[state_idx] = blocks[:, :, :kept]
        layer.is_recurrent_states_initialized[state_idx] = True
    return blocks


def ended_blocks(positions: torch.Tensor, count: int, needed: int, stride: int) -> torch.Tensor:
    """Which of `count` blocks have ended at each position: (batch, length) -> (batch, 1, length, count)."""
    ends = torch.arange(count, device=positions.device) * stride + needed - 1
    return (ends <= positions[:, :, None]).unsqueeze(1)


def visible_tokens(
    attention_mask: torch.Tensor | None,
    query_length: int,
    kv_length: int,
    device: torch.device,
) -> torch.Tensor:
    """The mask (batch or 1, 1, queries, keys) as a boolean one; None is plain causality."""
    if attention_mask is None:
        visible = torch.ones((1, 1, query_length, kv_length), dtype=torch.bool, device=device)
        return visible.tril(kv_length - query_length)
    return attention_mask if attention_mask.dtype == torch.bool else attention_mask == 0


def additive_mask(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A boolean mask as one to add to scores."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)


def with_blocks(
    attention_mask: torch.Tensor | None,
    ended: torch.Tensor,
    batch_size: int,
    kv_length: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The additive mask of tokens and of blocks (batch or 1, 1, queries, blocks), in this order."""
    query_length = ended.shape[2]
    if attention_mask is None or attention_mask.dtype == torch.bool:
        attention_mask = additive_mask(visible_tokens(attention_mask, query_length, kv_length, ended.device), dtype)
    masks = [mask.expand(batch_size, -1, -1, -1) for mask in (attention_mask, additive_mask(ended, dtype))]
    return torch.cat(masks, dim=-1)
