"""Attention with linear biases (Press et al. 2022, section 3)."""

import math

import torch


def alibi_slopes(num_heads: int, device: torch.device | None = None) -> torch.Tensor:
    """The slope of each head, float32: powers of 2^(-8/n); beyond a power of two, every other one of twice as many."""
    closest_power_of_2 = 2 ** math.floor(math.log2(num_heads))
    base = 2 ** (-8 / closest_power_of_2)
    slopes = [base ** (head + 1) for head in range(closest_power_of_2)]
    slopes += [base ** (head + 0.5) for head in range(num_heads - closest_power_of_2)]
    return torch.tensor(slopes, device=device)


def add_alibi(
    attention_mask: torch.Tensor | None,
    slopes: torch.Tensor,
    query_positions: torch.Tensor,
    key_positions: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Adds the heads' distance penalties to a mask; returns an additive mask (batch, heads, queries, keys).

    `attention_mask` (batch, 1, queries, keys) is boolean, additive, or None for plain causality. The positions, of
    shapes (queries) and (keys), count slots of the sequence, padding included: only their differences matter.
    """
    distance = key_positions[None, :] - query_positions[:, None]
    bias = (slopes[:, None, None] * distance).to(dtype)[None]
    if attention_mask is None:
        attention_mask = distance <= 0
    if attention_mask.dtype == torch.bool:
        return torch.where(attention_mask, bias, torch.finfo(dtype).min)
    return attention_mask + bias


def add_symmetric_alibi(
    attention_mask: torch.Tensor | None,
    slopes: torch.Tensor,
    query_positions: torch.Tensor,
    key_positions: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The same where tokens of a prefix see ahead: what counts is how far apart they are (llm-foundry's MPT)."""
    distance = key_positions[None, :] - query_positions[:, None]
    bias = (slopes[:, None, None] * -distance.abs()).to(dtype)[None]
    if attention_mask is None:
        attention_mask = distance <= 0
    if attention_mask.dtype == torch.bool:
        return torch.where(attention_mask, bias, torch.finfo(dtype).min)
    return attention_mask + bias
