"""Temperatures of queries that grow with the position, so that attention stays sharp over long contexts."""

import torch


def log_temperature(position_ids: torch.Tensor, scale: float, length: float) -> torch.Tensor:
    """1 + scale * log(1 + floor(position / length)), (batch, length) -> (batch, 1, length, 1) (Nakanishi 2025)."""
    temperature = 1.0 + scale * torch.log1p(torch.floor(position_ids.float() / length))
    return temperature[:, None, :, None]


def shifted_log_temperature(position_ids: torch.Tensor, scale: float, length: float) -> torch.Tensor:
    """The same, with positions counted from 1 (Llama 4)."""
    temperature = 1.0 + scale * torch.log1p(torch.floor((position_ids.float() + 1.0) / length))
    return temperature[:, None, :, None]


def power_temperature(position_ids: torch.Tensor, scale: float, length: float) -> torch.Tensor:
    """(1 + (position + 1) / length) ** scale, (batch, length) -> (batch, 1, length, 1)."""
    temperature = torch.exp(scale * torch.log1p((position_ids.float() + 1.0) / length))
    return temperature[:, None, :, None]
