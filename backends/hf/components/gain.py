"""Factors on the residual stream and on what is added to it."""

import torch
from torch import nn
from transformers import PreTrainedConfig


class ChannelGain(nn.Module):
    """A trained factor for every channel (Doge)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.weight = nn.Parameter(torch.ones(sizes.hidden_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.weight * hidden_states


class ChannelAffine(nn.Module):
    """A trained bias and then a trained factor for every channel (ZAYA)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.weight = nn.Parameter(torch.ones(sizes.hidden_size))
        self.bias = nn.Parameter(torch.zeros(sizes.hidden_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return (hidden_states + self.bias) * self.weight
