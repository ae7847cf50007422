"""RWKV-4: time mixing and channel mixing (Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era")."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.causal_conv import zero_padding
from eulerc.backends.hf.components.token_shift import previous_tokens
from eulerc.backends.hf.components.wkv import wkv


class TimeMix(nn.Module):
    """Keys, values and gates of each token and the one before; the gated, decaying mean of values (eqs. 11 to 17)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.inner_size = sizes.rwkv_size
        self.chunk_size = sizes.rwkv_chunk_size
        self.time_decay = nn.Parameter(torch.linspace(-5.0, 3.0, self.inner_size))
        self.time_first = nn.Parameter(torch.full((self.inner_size,), -1.2))
        self.time_mix_key = nn.Parameter(torch.linspace(0.0, 1.0, config.hidden_size))
        self.time_mix_value = nn.Parameter(torch.linspace(0.0, 1.0, config.hidden_size))
        self.time_mix_receptance = nn.Parameter(torch.linspace(0.0, 1.0, config.hidden_size))
        self.k_proj = nn.Linear(config.hidden_size, self.inner_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.inner_size, bias=False)
        self.r_proj = nn.Linear(config.hidden_size, self.inner_size, bias=False)
        self.o_proj = nn.Linear(self.inner_size, config.hidden_size, bias=False)

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
        state = past_key_values.get_recurrent_state(layer_idx) if past_key_values is not None else None
        previous = previous_tokens(hidden_states, past_key_values, layer_idx)
        key = self.k_proj(hidden_states * self.time_mix_key + previous * (1 - self.time_mix_key)).float()
        value = self.v_proj(hidden_states * self.time_mix_value + previous * (1 - self.time_mix_value))
        receptance = hidden_states * self.time_mix_receptance + previous * (1 - self.time_mix_receptance)
        receptance = torch.sigmoid(self.r_proj(receptance))
        if attention_mask is not None:
            # Less than any key: padding weighs nothing beside it
            key = key.masked_fill(attention_mask[:, :, None] == 0, torch.finfo(key.dtype).min)

        decay = -torch.exp(self.time_decay)
        output, state = wkv(key, value.float(), decay.float(), self.time_first.float(), state, self.chunk_size)
        if past_key_values is not None:
            past_key_values.update_recurrent_state(state, layer_idx)
        return self.o_proj(receptance * output.to(value.dtype))
