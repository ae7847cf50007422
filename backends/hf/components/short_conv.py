"""Gated short convolution (LFM2)."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.integrations.accelerate import force_accelerate_hooks
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.causal_conv import causal_conv1d_fn, zero_padding


class Convolution(nn.Conv1d):
    """A filter for each channel."""

    def __init__(self, channels: int, kernel_size: int, bias: bool) -> None:
        super().__init__(channels, channels, kernel_size=kernel_size, groups=channels, bias=bias)


class ShortConv(nn.Module):
    """A causal convolution of each channel over a few tokens, with a gate before it and one behind."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.conv_kernel_size = sizes.short_conv_kernel
        self.conv = Convolution(config.hidden_size, self.conv_kernel_size, bias=config.short_conv_bias)
        self.in_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.short_conv_bias)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.short_conv_bias)

    @force_accelerate_hooks("conv")
    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        layer_idx = cache_slot if self.config.shared_module else self.layer_idx
        seq_len = hidden_states.shape[1]
        before, behind, hidden_states = self.in_proj(hidden_states).chunk(3, dim=-1)
        hidden_states = zero_padding(before * hidden_states, attention_mask).transpose(1, 2)
        if past_key_values is not None:
            hidden_states = past_key_values.update_conv_state(
                hidden_states,
                layer_idx,
                conv_kernel_size=self.conv_kernel_size,
            )
        hidden_states = causal_conv1d_fn(
            hidden_states,
            self.conv.weight.squeeze(1),
            self.conv.bias,
        )[:, :, -seq_len:]
        return self.out_proj(behind * hidden_states.transpose(1, 2))


def short_convolution(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The convolution as it is written: `states` is (batch, length, channels), `weight` (channels, kernel)."""
    outputs = []
    for token in range(states.shape[1]):
        output = bias.expand(states.shape[0], -1)
        for back in range(min(token + 1, weight.shape[1])):
            output = output + weight[:, -1 - back] * states[:, token - back]
        outputs.append(output)
    return torch.stack(outputs, dim=1)
