"""Rotation of the last dims of heads, as many as the tables are wide (DeepSeek-V4).

States are (batch, heads, length, width), tables (batch, length, rotary width) with two equal halves. `pairs` pair
(0, 1), (2, 3), ...; the others pair the halves.
"""

import torch

from eulerc.backends.hf.components.apply_rotary import rotate_half, rotate_pairs


def rotate_last(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates the last dims, pairing their halves."""
    passed, rotated = states[..., : -cos.shape[-1]], states[..., -cos.shape[-1] :]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat((passed, rotated * cos + rotate_half(rotated) * sin), dim=-1)


def rotate_last_float32(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates the last dims in float32, pairing their halves."""
    passed, rotated = states[..., : -cos.shape[-1]], states[..., -cos.shape[-1] :].float()
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat((passed, (rotated * cos + rotate_half(rotated) * sin).to(states.dtype)), dim=-1)


def rotate_last_pairs(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates the last dims, pairing neighbours."""
    passed, rotated = states[..., : -cos.shape[-1]], states[..., -cos.shape[-1] :]
    cos, sin = (table[..., : table.shape[-1] // 2].unsqueeze(1) for table in (cos, sin))
    return torch.cat((passed, rotate_pairs(rotated, cos, sin)), dim=-1)


def rotate_last_pairs_float32(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates the last dims in float32, pairing neighbours (DeepSeek-V4)."""
    passed, rotated = states[..., : -cos.shape[-1]], states[..., -cos.shape[-1] :].float()
    cos, sin = (table[..., : table.shape[-1] // 2].unsqueeze(1) for table in (cos, sin))
    return torch.cat((passed, rotate_pairs(rotated, cos, sin).to(states.dtype)), dim=-1)


def fitted_table(table: torch.Tensor, width: int) -> torch.Tensor:
    """The table for heads of `width`: they rotate by as many of its angles as they have pairs."""
    angles = table[..., : min(table.shape[-1], width) // 2]
    return torch.cat((angles, angles), dim=-1)
