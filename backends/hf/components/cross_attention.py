"""Softmax attention of one stream of layers to another one of the same tokens."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.apply_rotary import apply_rotary_pos_emb
from eulerc.backends.hf.components.eager_attention import eager_attention_forward


class CrossAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.3) whose keys and values are those of another stream.

    Both streams have the same tokens, and a token sees those up to its own place.
    """

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = sizes.head_dim
        self.num_key_value_groups = sizes.num_attention_heads // sizes.num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = sizes.attention_dropout
        self.is_causal = True
        self.q_proj = nn.Linear(config.hidden_size, sizes.num_attention_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, sizes.num_key_value_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, sizes.num_key_value_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(sizes.num_attention_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        layer_idx = cache_slot if self.config.shared_module else self.layer_idx
        input_shape = hidden_states.shape[:-1]
        hidden_shape = (*input_shape, -1, self.head_dim)

        query_states = self.q_proj(hidden_states).view(hidden_shape).transpose(1, 2)
        key_states = self.k_proj(key_value_states).view(hidden_shape).transpose(1, 2)
        value_states = self.v_proj(key_value_states).view(hidden_shape).transpose(1, 2)
        if self.config.rope:
            cos, sin = position_embeddings
            query_states, key_states = apply_rotary_pos_emb(query_states, key_states, cos, sin)
        if past_key_values is not None:
            key_states, value_states = past_key_values.update(key_states, value_states, layer_idx)

        attention_interface = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation,
            eager_attention_forward,
        )
        attn_output, attn_weights = attention_interface(
            self,
            query_states,
            key_states,
            value_states,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        attn_output = attn_output.reshape(*input_shape, -1).contiguous()
        return self.o_proj(attn_output), attn_weights
