"""Factors on groups of channels."""

import torch


def scale_segments(hidden_states: torch.Tensor, widths: tuple[int, ...], factors: tuple[float, ...]) -> torch.Tensor:
    """Channels (..., sum of `widths`), those of each segment times its factor, rounded to their dtype before."""
    segments = [hidden_states.new_full((width,), factor) for width, factor in zip(widths, factors, strict=True)]
    return hidden_states * torch.cat(segments)
