"""The feed-forward network of RWKV-4 (Peng et al. 2023)."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.causal_conv import zero_padding
from eulerc.backends.hf.components.token_shift import previous_tokens


class ChannelMix(nn.Module):
    """A squared ReLU between two projections, and a gate: both read each token and the one before (eqs. 18 to 21)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.intermediate_size = sizes.intermediate_size
        # States of the layer's mixers come first in its cache
        self.state_idx = config.first_shift_state
        self.time_mix_key = nn.Parameter(torch.linspace(0.0, 1.0, config.hidden_size))
        self.time_mix_receptance = nn.Parameter(torch.linspace(0.0, 1.0, config.hidden_size))
        self.up_proj = nn.Linear(config.hidden_size, self.intermediate_size, bias=False)
        self.r_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.down_proj = nn.Linear(self.intermediate_size, config.hidden_size, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        layer_idx = cache_slot if self.config.shared_module else self.layer_idx
        hidden_states = zero_padding(hidden_states, attention_mask)
        previous = previous_tokens(hidden_states, past_key_values, layer_idx, self.state_idx)
        key = hidden_states * self.time_mix_key + previous * (1 - self.time_mix_key)
        receptance = hidden_states * self.time_mix_receptance + previous * (1 - self.time_mix_receptance)
        output = self.down_proj(torch.square(torch.relu(self.up_proj(key))))
        return torch.sigmoid(self.r_proj(receptance)) * output
