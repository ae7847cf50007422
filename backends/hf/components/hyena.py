"""Hyena: long convolutions and gates in turn (Poli et al. 2023, "Hyena Hierarchy")."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.integrations.accelerate import force_accelerate_hooks
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.cached_inputs import cached_inputs, joined
from eulerc.backends.hf.components.causal_conv import causal_conv1d_fn, zero_padding
from eulerc.backends.hf.components.hyena_filter import Filter
from eulerc.backends.hf.components.long_convolution import convolved_at


class Convolution(nn.Conv1d):
    """A filter for each channel."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size=kernel_size, groups=channels)


class Hyena(nn.Module):
    """z[1] = v, z[n + 1] = x[n] (h[n] * z[n]), y = z[N + 1], over projections of the stream (Poli et al. 2023, eq. 4).

    The cache holds, as keys, what every convolution has read and, as values, the taps of its filter: both grow by one
    a token, and a step needs neither the filter's network for old lags nor the transform.
    """

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.depth = sizes.hyena_depth
        self.conv_kernel_size = sizes.hyena_d_conv
        self.conv_dim = (self.depth + 1) * config.hidden_size
        self.in_proj = nn.Linear(config.hidden_size, self.conv_dim, bias=False)
        self.conv1d = Convolution(self.conv_dim, self.conv_kernel_size)
        self.filter = Filter(config, layer_idx)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    @force_accelerate_hooks("conv1d")
    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        layer_idx = cache_slot if self.config.shared_module else self.layer_idx
        batch_size, seq_len, _ = hidden_states.shape
        dtype = hidden_states.dtype
        states = zero_padding(self.in_proj(hidden_states), attention_mask).transpose(1, 2)
        past_inputs, past_taps, past_length, has_room = cached_inputs(past_key_values, layer_idx)
        if past_key_values is not None:
            states = past_key_values.update_conv_state(states, layer_idx, conv_kernel_size=self.conv_kernel_size)
        states = causal_conv1d_fn(
            states,
            self.conv1d.weight.squeeze(1),
            self.conv1d.bias,
        )[:, :, -seq_len:]
        *gates, states = zero_padding(states.transpose(1, 2), attention_mask).chunk(self.depth + 1, dim=-1)

        positions = torch.arange(seq_len, device=hidden_states.device) + past_length
        new_taps = self.filter(positions).to(dtype)
        taps = joined(past_taps, new_taps, positions, has_room)
        new_inputs = []
        for order, gate in enumerate(gates):
            new_inputs.append(states)
            history = joined(past_inputs[:, order] if past_inputs is not None else None, states, positions, has_room)
            states = gate * convolved_at(history, taps[order], positions).to(dtype)
        if past_key_values is not None:
            new_taps = new_taps.expand(batch_size, -1, -1, -1)
            past_key_values.update(torch.stack(new_inputs, dim=1), new_taps, layer_idx)
        return self.out_proj(states)
