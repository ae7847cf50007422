"""A causal convolution that ends a layer and gives the stream behind it another width."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache

from eulerc.backends.hf.components.causal_conv import zero_padding


class ConvShapeChange(nn.Module):
    """A matrix for each of the last tokens."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.kernel_size = sizes.shape_change_kernel
        self.state_idx = sizes.shape_change_state
        self.weight = nn.Parameter(torch.empty(sizes.output_size, config.hidden_size, self.kernel_size))

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
    ) -> torch.Tensor:
        layer_idx = cache_slot if self.config.shared_module else self.layer_idx
        seq_len = hidden_states.shape[1]
        hidden_states = zero_padding(hidden_states, attention_mask).transpose(1, 2)
        if past_key_values is not None:
            hidden_states = past_key_values.update_conv_state(
                hidden_states,
                layer_idx,
                state_idx=self.state_idx,
                conv_kernel_size=self.kernel_size,
            )
        # The last `seq_len` outputs need no more than these inputs
        hidden_states = nn.functional.pad(hidden_states, (self.kernel_size - 1, 0))
        hidden_states = hidden_states[:, :, -(seq_len + self.kernel_size - 1) :]
        return nn.functional.conv1d(hidden_states, self.weight).transpose(1, 2)
