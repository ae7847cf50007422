"""Norms over each head by itself, with a weight for every channel of all heads."""

import torch
from torch import nn


class HeadNorm(nn.Module):
    """LayerNorm of (..., heads, head_dim), over head_dim in float32, with bias: gives (..., heads * head_dim)."""

    def __init__(self, num_heads: int, head_dim: int, eps: float) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_heads * head_dim))
        self.bias = nn.Parameter(torch.zeros(num_heads * head_dim))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        normed = nn.functional.layer_norm(hidden_states.float(), (self.head_dim,), eps=self.eps)
        return self.weight * normed.flatten(-2).to(hidden_states.dtype) + self.bias


class BiaslessHeadNorm(nn.Module):
    """HeadNorm without a bias."""

    def __init__(self, num_heads: int, head_dim: int, eps: float) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_heads * head_dim))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        normed = nn.functional.layer_norm(hidden_states.float(), (self.head_dim,), eps=self.eps)
        return self.weight * normed.flatten(-2).to(hidden_states.dtype)
