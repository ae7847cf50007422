"""Feed-forward network without a gate."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN


class MLP(nn.Module):
    """Position-wise feed-forward network (Vaswani et al. 2017, eq. 2): down(act(up(x)))."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.hidden_size = config.hidden_size
        self.intermediate_size = sizes.intermediate_size
        self.up_proj = nn.Linear(self.hidden_size, self.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(self.intermediate_size, self.hidden_size, bias=config.mlp_bias)
        self.act_fn = ACT2FN[sizes.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.up_proj(hidden_states)))
