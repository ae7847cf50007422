"""Masks that values decide (Shi et al. 2025, Trainable Dynamic Mask Sparse Attention)."""

import torch
from torch import nn
from transformers import PreTrainedConfig


class DynamicMask(nn.Module):
    """Biases the scores of every key by its values, and hides all keys but those with the largest biases."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.num_key_value_groups = sizes.num_attention_heads // sizes.num_key_value_heads
        self.keep_window_size = sizes.keep_window_size
        self.A = nn.Parameter(torch.zeros(sizes.num_key_value_heads))
        self.dt_proj = nn.Linear(
            sizes.num_key_value_heads * (sizes.head_dim if sizes.v_head_dim is None else sizes.v_head_dim),
            sizes.num_key_value_heads,
            bias=config.dynamic_mask_bias,
        )

    def forward(
        self,
        value_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        query_length: int,
    ) -> torch.Tensor:
        """The additive mask (batch, heads, queries, keys) of values (batch, kv heads, keys, width).

        `attention_mask` (batch, 1, queries, keys) is boolean, additive, or None for plain causality.
        """
        kv_length = value_states.shape[2]
        if attention_mask is None:
            allowed = value_states.new_ones((1, 1, query_length, kv_length), dtype=torch.bool)
            allowed = allowed.tril(kv_length - query_length)
        elif attention_mask.dtype == torch.bool:
            allowed = attention_mask
        else:
            allowed = attention_mask == 0

        steps = self.dt_proj(value_states.transpose(1, 2).flatten(2))
        bias = torch.exp(self.A * nn.functional.softplus(steps)).transpose(-1, -2).unsqueeze(2)
        hidden = torch.finfo(bias.dtype).min
        mask = torch.where(allowed, bias, hidden)
        if kv_length > self.keep_window_size:
            kept = torch.topk(mask, self.keep_window_size, dim=-1, sorted=False).indices
            passed_over = torch.ones_like(mask, dtype=torch.bool).scatter(-1, kept, False)
            mask = mask.masked_fill(passed_over, hidden)
        return mask.repeat_interleave(self.num_key_value_groups, dim=1)
