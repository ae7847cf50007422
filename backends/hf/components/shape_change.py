"""Projections that end a layer and give the stream behind it another width."""

import torch
from torch import nn
from transformers import PreTrainedConfig


class LinearShapeChange(nn.Linear):
    """One matrix."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        sizes = config.per_layer_config[layer_idx]
        super().__init__(config.hidden_size, sizes.output_size, bias=False)


class MLPShapeChange(nn.Module):
    """Two matrices with SiLU between them."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.up_proj = nn.Linear(config.hidden_size, sizes.output_size, bias=False)
        self.down_proj = nn.Linear(sizes.output_size, sizes.output_size, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(nn.functional.silu(self.up_proj(hidden_states)))
