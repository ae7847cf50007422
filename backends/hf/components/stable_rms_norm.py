"""Root-mean-square norms of other shapes with weights in float32, rounded to the input's dtype once, at the end."""

import torch
from torch import nn


class StableGatedRMSNorm(nn.Module):
    """Root mean square norm, weighted in float32, times a gate that it computes from its own result (A.X K2)."""

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
        hidden_states = self.weight * hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        gate_states = hidden_states.to(self.gate_down_proj.weight.dtype)
        gate = self.gate_up_proj(nn.functional.silu(self.gate_down_proj(gate_states)))
        return (hidden_states * torch.sigmoid(gate.to(torch.float32))).to(input_dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


class StableGroupedRMSNorm(nn.Module):
    """Root mean square norm of each group of channels by itself, weighted in float32."""

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
        return (self.weight * hidden_states).to(input_dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, groups={self.groups}, eps={self.variance_epsilon}"
