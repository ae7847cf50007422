"""Models that learn within a sequence: f(x) = x + LN(f_res(x)) (Sun et al. 2024, section 2.7), one for each head."""

import math
from typing import Any

import torch
from torch import nn

from eulerc.backends.hf.components.inner_norm import InnerNorm


class InnerLinear(nn.Module):
    """TTT-Linear: f_res(x) = x W."""

    def __init__(self, num_heads: int, head_dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_heads, head_dim, head_dim))
        self.norm = InnerNorm(num_heads, head_dim, eps)

    def first_weights(self) -> list[torch.Tensor]:
        """What a sequence begins with."""
        return [self.weight.float()]

    def forward(self, states: torch.Tensor, weights: list[Any]) -> torch.Tensor:
        return states + self.norm(weights[0].apply(states))

    def step(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        rates: torch.Tensor,
        weights: list[Any],
    ) -> None:
        """One step down the loss |f(inputs) - targets|^2 (eq. 4), that of each token at its rate."""
        features = weights[0].apply(inputs)
        errors = self.norm.backward(features, 2 * (inputs + self.norm(features) - targets))
        weights[0].step(inputs, rates * errors)


class InnerMLP(nn.Module):
    """TTT-MLP: f_res(x) = GELU(x W_1) W_2."""

    def __init__(self, num_heads: int, head_dim: int, eps: float, inner_size: int = 256) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(num_heads, head_dim, inner_size))
        self.down = nn.Parameter(torch.empty(num_heads, inner_size, head_dim))
        self.norm = InnerNorm(num_heads, head_dim, eps)

    def first_weights(self) -> list[torch.Tensor]:
        """What a sequence begins with."""
        return [self.up.float(), self.down.float()]

    def forward(self, states: torch.Tensor, weights: list[Any]) -> torch.Tensor:
        up, down = weights
        return states + self.norm(down.apply(nn.functional.gelu(up.apply(states))))

    def step(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        rates: torch.Tensor,
        weights: list[Any],
    ) -> None:
        """One step down the loss |f(inputs) - targets|^2 (eq. 4), that of each token at its rate."""
        up, down = weights
        hidden = up.apply(inputs)
        activated = nn.functional.gelu(hidden)
        features = down.apply(activated)
        errors = self.norm.backward(features, 2 * (inputs + self.norm(features) - targets))
        hidden_errors = down.apply_transposed(errors) * gelu_slope(hidden)
        down.step(activated, rates * errors)
        up.step(inputs, rates * hidden_errors)


def gelu_slope(states: torch.Tensor) -> torch.Tensor:
    """The derivative of GELU."""
    density = torch.exp(-0.5 * states**2) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + torch.erf(states / math.sqrt(2))) + states * density
