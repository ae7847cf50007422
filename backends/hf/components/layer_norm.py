"""Layer norms that torch has not (Ba et al. 2016, eq. 4)."""

import torch
from torch import nn


class Float32LayerNorm(nn.Module):
    """LayerNorm without bias whose every step, the weight included, is computed in float32 (Cohere)."""

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        mean = hidden_states.mean(-1, keepdim=True)
        variance = (hidden_states - mean).pow(2).mean(-1, keepdim=True)
        hidden_states = (hidden_states - mean) * torch.rsqrt(variance + self.variance_epsilon)
        return (self.weight.to(torch.float32) * hidden_states).to(input_dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


class BiaslessLayerNorm(nn.LayerNorm):
    """torch's LayerNorm with a weight and no bias."""

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__(hidden_size, eps=eps, bias=False)


class UnweightedLayerNorm(nn.Module):
    """LayerNorm without weight and bias, computed in float32 (OLMo)."""

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.normalized_shape = (hidden_size,)
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        normed_states = nn.functional.layer_norm(
            hidden_states.to(torch.float32),
            self.normalized_shape,
            eps=self.variance_epsilon,
        )
        return normed_states.to(hidden_states.dtype)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.variance_epsilon}"


class UnitOffsetLayerNorm(nn.Module):
    """LayerNorm that scales by 1 + weight and adds a bias, both starting from zero (Nemotron)."""

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.normalized_shape = (hidden_size,)
        self.weight = nn.Parameter(torch.zeros(hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(
            hidden_states,
            self.normalized_shape,
            self.weight + 1.0,
            self.bias,
            self.variance_epsilon,
        )

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.variance_epsilon}"


class StableLayerNorm(nn.LayerNorm):
    """torch's LayerNorm with weight and bias in float32, computed in float32 whatever the input's dtype."""

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__(hidden_size, eps=eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states.to(torch.float32)).to(hidden_states.dtype)


class StableBiaslessLayerNorm(nn.LayerNorm):
    """torch's LayerNorm with a weight in float32 and no bias, computed in float32 whatever the input's dtype."""

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__(hidden_size, eps=eps, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states.to(torch.float32)).to(hidden_states.dtype)


class StableUnitOffsetLayerNorm(nn.Module):
    """LayerNorm that scales by 1 + weight and adds a bias, both in float32, computed in float32."""

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.normalized_shape = (hidden_size,)
        self.weight = nn.Parameter(torch.zeros(hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        normed_states = nn.functional.layer_norm(
            hidden_states.to(torch.float32),
            self.normalized_shape,
            self.weight + 1.0,
            self.bias,
            self.variance_epsilon,
        )
        return normed_states.to(hidden_states.dtype)
