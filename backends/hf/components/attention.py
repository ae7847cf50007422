"""Softmax attention with any number of key/value heads."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.apply_rotary import apply_rotary_pos_emb
from eulerc.backends.hf.components.eager_attention import eager_attention_forward
from eulerc.backends.hf.components.rms_norm import RMSNorm as QKNorm


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, eq. 1), with one key/value head to a group of query heads."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = sizes.head_dim
        self.num_key_value_groups = sizes.num_attention_heads // sizes.num_key_value_heads
        if sizes.attention_multiplier is not None:
            self.scaling = sizes.attention_multiplier
        else:
            self.scaling = self.head_dim**-0.5
        self.attention_dropout = sizes.attention_dropout
        self.is_causal = True
        if sizes.sliding_window is not None:
            self.sliding_window = sizes.sliding_window
        if sizes.attn_logit_softcapping is not None:
            self.attn_logit_softcapping = sizes.attn_logit_softcapping

        self.q_proj = nn.Linear(
            config.hidden_size,
            sizes.num_attention_heads * self.head_dim,
            bias=config.attention_bias,
        )
        self.k_proj = nn.Linear(
            config.hidden_size,
            sizes.num_key_value_heads * self.head_dim,
            bias=config.attention_bias,
        )
        self.v_proj = nn.Linear(
            config.hidden_size,
            sizes.num_key_value_heads * self.head_dim,
            bias=config.attention_bias,
        )
        self.o_proj = nn.Linear(
            sizes.num_attention_heads * self.head_dim,
            config.hidden_size,
            bias=config.attention_out_bias,
        )
        if config.qk_norm == "head":
            self.q_norm = QKNorm(self.head_dim, eps=sizes.qk_norm_eps)
            self.k_norm = QKNorm(self.head_dim, eps=sizes.qk_norm_eps)
        elif config.qk_norm == "full":
            self.q_norm = QKNorm(sizes.num_attention_heads * self.head_dim, eps=sizes.qk_norm_eps)
            self.k_norm = QKNorm(sizes.num_key_value_heads * self.head_dim, eps=sizes.qk_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        input_shape = hidden_states.shape[:-1]
        hidden_shape = (*input_shape, -1, self.head_dim)

        if self.config.qk_norm == "head":
            query_states = self.q_norm(self.q_proj(hidden_states).view(hidden_shape)).transpose(1, 2)
            key_states = self.k_norm(self.k_proj(hidden_states).view(hidden_shape)).transpose(1, 2)
        elif self.config.qk_norm == "full":
            query_states = self.q_norm(self.q_proj(hidden_states)).view(hidden_shape).transpose(1, 2)
            key_states = self.k_norm(self.k_proj(hidden_states)).view(hidden_shape).transpose(1, 2)
        else:
            query_states = self.q_proj(hidden_states).view(hidden_shape).transpose(1, 2)
            key_states = self.k_proj(hidden_states).view(hidden_shape).transpose(1, 2)
        value_states = self.v_proj(hidden_states).view(hidden_shape).transpose(1, 2)

        if self.config.rope:
            cos, sin = position_embeddings
            query_states, key_states = apply_rotary_pos_emb(query_states, key_states, cos, sin)
        if past_key_values is not None:
            key_states, value_states = past_key_values.update(key_states, value_states, self.layer_idx)

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
            sliding_window=self.sliding_window if self.config.sliding_window is not None else None,
            softcap=self.attn_logit_softcapping if self.config.attn_logit_softcapping is not None else None,
            **kwargs,
        )

        attn_output = attn_output.reshape(*input_shape, -1).contiguous()
        attn_output = self.o_proj(attn_output)
        return attn_output, attn_weights
