"""Feed-forward network without a gate."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from eulerc.backends.hf.components.rms_norm import RMSNorm as InnerNorm
from eulerc.backends.hf.components.xielu import XIELU


class MLP(nn.Module):
    """Position-wise feed-forward network (Vaswani et al. 2017, eq. 2): down(act(up(x)))."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int, intermediate_size: int | None = None) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.hidden_size = config.hidden_size
        if config.takes_intermediate_size:
            self.intermediate_size = sizes.intermediate_size if intermediate_size is None else intermediate_size
        else:
            self.intermediate_size = sizes.intermediate_size
        self.up_proj = nn.Linear(self.hidden_size, self.intermediate_size, bias=config.up_proj_bias)
        if config.inner_norm:
            self.ffn_sub_norm = InnerNorm(self.intermediate_size, eps=sizes.inner_norm_eps)
        self.down_proj = nn.Linear(self.intermediate_size, self.hidden_size, bias=config.down_proj_bias)
        if config.xielu:
            self.act_fn = XIELU()
        else:
            self.act_fn = ACT2FN[sizes.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.config.inner_norm:
            return self.down_proj(self.ffn_sub_norm(self.act_fn(self.up_proj(hidden_states))))
        return self.down_proj(self.act_fn(self.up_proj(hidden_states)))
