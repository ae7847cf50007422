"""Root mean square norms of what a recurrent mixer gives, together with the SiLU gate on it."""

import torch
from torch import nn


class RMSNormGated(nn.Module):
    """Gate, then norm over each group of channels (Dao & Gu 2024, section 7.1)."""

    def __init__(self, hidden_size: int, groups: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.groups = groups
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32) * nn.functional.silu(gate.to(torch.float32))
        hidden_states = hidden_states.unflatten(-1, (self.groups, -1))
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = (hidden_states * torch.rsqrt(variance + self.variance_epsilon)).flatten(-2)
        return self.weight * hidden_states.to(input_dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, groups={self.groups}, eps={self.variance_epsilon}"


class RMSNormBeforeGate(nn.Module):
    """Norm over each group of channels, then the gate (Falcon-H1)."""

    def __init__(self, hidden_size: int, groups: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.groups = groups
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32).unflatten(-1, (self.groups, -1))
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = (hidden_states * torch.rsqrt(variance + self.variance_epsilon)).flatten(-2)
        hidden_states = self.weight * hidden_states
        return (hidden_states * nn.functional.silu(gate.to(torch.float32))).to(input_dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, groups={self.groups}, eps={self.variance_epsilon}"
