"""How the library lays out fused projections, taken apart: heads of 16 dimensions, four of them if not said."""

from __future__ import annotations

import torch

HEADS, WIDTH = 4, 16


def _groups(tensor: torch.Tensor) -> int:
    """Key/value heads of a fused projection, whose rows are those of all queries, keys and values."""
    return (tensor.shape[0] // WIDTH - HEADS) // 2


def triples(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values where every head has all three side by side (BLOOM), weight or bias, any heads."""
    heads = tensor.reshape(-1, 3, WIDTH, *tensor.shape[1:])
    return tuple(part.flatten(0, 1) for part in heads.unbind(1))


def grouped(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values where each key/value head follows its queries (GPT-NeoX, Falcon), weight or bias."""
    groups = _groups(tensor)
    heads = tensor.reshape(groups, -1, WIDTH, *tensor.shape[1:])
    return tuple(part.flatten(0, 2) for part in heads.split([HEADS // groups, 1, 1], dim=1))


def stacked(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values where all queries come first, then all keys, then all values (Phi-3)."""
    keys = _groups(tensor) * WIDTH
    return tensor.split([HEADS * WIDTH, keys, keys])


def halves(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Gate and up projection out of one."""
    return tensor.chunk(2)
