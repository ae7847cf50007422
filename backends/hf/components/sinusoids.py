"""Positions as sines and cosines of geometric wavelengths (Vaswani et al. 2017, section 3.5)."""

import math

import torch


def sinusoidal_positions(position_ids: torch.Tensor, width: int) -> torch.Tensor:
    """Sines, then cosines, of position / 10000^(2i / width): (batch, length) -> (batch, length, width), in float32."""
    exponents = torch.arange(0, width, 2, device=position_ids.device).float() / width
    angles = position_ids[..., None].float() * 10000.0**-exponents
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def spread_sinusoidal_positions(position_ids: torch.Tensor, width: int) -> torch.Tensor:
    """The same, with wavelengths spread from 2 pi to 20000 pi, both included (tensor2tensor)."""
    steps = torch.arange(width // 2, device=position_ids.device).float()
    frequencies = torch.exp(steps * -(math.log(10000) / (width // 2 - 1)))
    angles = position_ids[..., None].float() * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)
