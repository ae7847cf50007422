"""A factor on the result of a layer."""

import torch
from torch import nn
from transformers import PreTrainedConfig


class LayerScalar(nn.Module):
    """A factor that is saved and not trained (Gemma 4)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.weight = nn.Buffer(torch.ones(1))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * self.weight
