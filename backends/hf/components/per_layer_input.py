"""What a layer does with its own embedding of each token."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from eulerc.backends.hf.components.rms_norm import RMSNorm as PerLayerNorm


class PerLayerInput(nn.Module):
    """The layer's embedding of a token, gated by the stream and projected to its width (Gemma 3n)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.act_fn = ACT2FN[config.per_layer_act]
        self.gate_proj = nn.Linear(config.hidden_size, config.per_layer_size, bias=False)
        self.out_proj = nn.Linear(config.per_layer_size, config.hidden_size, bias=False)
        self.norm = PerLayerNorm(config.hidden_size, eps=config.per_layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor, per_layer_input: torch.Tensor) -> torch.Tensor:
        gate = self.act_fn(self.gate_proj(hidden_states))
        return self.norm(self.out_proj(gate * per_layer_input))
