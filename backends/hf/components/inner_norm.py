"""The norm of models that learn within a sequence (Sun et al. 2024, section 2.7)."""

import torch
from torch import nn


class InnerNorm(nn.Module):
    """LayerNorm over the width of a head, each with weights of its own, and the gradient that goes back through it."""

    def __init__(self, num_heads: int, head_dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_heads, head_dim))
        self.bias = nn.Parameter(torch.zeros(num_heads, head_dim))
        self.eps = eps

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """`states` is (batch, heads, length, head_dim)."""
        return self.normalize(states)[0] * self.weight.float()[:, None] + self.bias.float()[:, None]

    def normalize(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States of mean 0 and variance 1, and the deviations that they were divided by."""
        centred = states - states.mean(dim=-1, keepdim=True)
        deviation = (centred.pow(2).mean(dim=-1, keepdim=True) + self.eps).sqrt()
        return centred / deviation, deviation

    def backward(self, states: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient at the norm's input `states`, for one at its output."""
        normed, deviation = self.normalize(states)
        gradient = gradient * self.weight.float()[:, None]
        along = (gradient * normed).mean(dim=-1, keepdim=True) * normed
        return (gradient - gradient.mean(dim=-1, keepdim=True) - along) / deviation
