"""A gate over streams of layers."""

import torch
from torch import nn


class StreamGate(nn.Module):
    """Weighs streams by a softmax of what they have read."""

    def __init__(self, hidden_size: int, num_streams: int) -> None:
        super().__init__()
        self.proj = nn.Linear(hidden_size, num_streams, bias=False)

    def forward(self, hidden_states: torch.Tensor, streams: list[torch.Tensor]) -> torch.Tensor:
        """The sum of `streams`, each (batch, length, width) as `hidden_states` is, by weights for every token."""
        weights = self.proj(hidden_states).softmax(dim=-1, dtype=torch.float32).to(hidden_states.dtype)
        return (torch.stack(streams, dim=-1) * weights[..., None, :]).sum(dim=-1)
