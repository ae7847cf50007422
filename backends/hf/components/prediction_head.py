"""What stands between the model and the projection onto the vocabulary."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from eulerc.backends.hf.components.rms_norm import RMSNorm as HeadNorm


class PredictionHead(nn.Module):
    """A projection, an activation and a norm before the vocabulary, as in BERT (Devlin et al. 2019)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.head_bias)
        self.act_fn = ACT2FN[config.head_act]
        if config.head_norm:
            self.norm = HeadNorm(config.hidden_size, eps=config.head_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.act_fn(self.dense(hidden_states))
        if self.config.head_norm:
            hidden_states = self.norm(hidden_states)
        return hidden_states
