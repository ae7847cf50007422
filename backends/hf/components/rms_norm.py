"""Root-mean-square norms (Zhang & Sennrich 2019, eq. 4), which differ in where the weight meets the input's dtype."""

import torch
from torch import nn
from transformers.integrations import use_kernel_forward_from_hub


@use_kernel_forward_from_hub("RMSNorm")
class RMSNorm(nn.Module):
    """Root mean square norm whose weight multiplies the result in the input's dtype (Llama)."""

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(input_dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


@use_kernel_forward_from_hub("RMSNorm")
class Float32RMSNorm(nn.Module):
    """Root mean square norm whose weight multiplies the result in float32 (OLMo 2)."""

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return (self.weight * hidden_states).to(input_dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


class UnitOffsetRMSNorm(nn.Module):
    """RMSNorm that scales by 1 + weight, in float32, with the weight starting from zero (Gemma)."""

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return (hidden_states * (1.0 + self.weight.float())).to(input_dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


class UnweightedRMSNorm(nn.Module):
    """Root mean square norm without a weight, computed in float32 (nanochat)."""

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return (hidden_states * torch.rsqrt(variance + self.variance_epsilon)).to(input_dtype)

    def extra_repr(self) -> str:
        return f"{(self.hidden_size,)}, eps={self.variance_epsilon}"


class GatedRMSNorm(nn.Module):
    """Root mean square norm times a gate that it computes from its own result through a low rank (A.X K2)."""

    def __init__(self, hidden_size: int, rank: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.gate_down_proj = nn.Linear(hidden_size, rank, bias=False)
        self.gate_up_proj = nn.Linear(rank, hidden_size, bias=False)
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        hidden_states = self.weight * hidden_states.to(input_dtype)
        gate = self.gate_up_proj(nn.functional.silu(self.gate_down_proj(hidden_states)))
        return (hidden_states * torch.sigmoid(gate.to(torch.float32))).to(input_dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


class GroupedRMSNorm(nn.Module):
    """Root mean square norm of each group of channels by itself, with one weight a channel."""

    def __init__(self, hidden_size: int, groups: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.groups = groups
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        input_dtype = hidden_states.dtype
        grouped_states = hidden_states.to(torch.float32).unflatten(-1, (self.groups, -1))
        variance = grouped_states.pow(2).mean(-1, keepdim=True)
        hidden_states = (grouped_states * torch.rsqrt(variance + self.variance_epsilon)).flatten(-2)
        return self.weight * hidden_states.to(input_dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, groups={self.groups}, eps={self.variance_epsilon}"
