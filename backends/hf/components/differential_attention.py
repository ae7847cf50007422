"""Differential attention (Ye et al. 2024, Differential Transformer)."""

import math

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.apply_rotary import apply_rotary_pos_emb
from eulerc.backends.hf.components.eager_attention import eager_attention_forward
from eulerc.backends.hf.components.rms_norm import RMSNorm as DifferenceNorm


class DifferentialAttention(nn.Module):
    """The heads of the first half less lambda times those of the second, which cancels what both attend to."""

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
        if sizes.lambda_init is not None:
            self.lambda_init = sizes.lambda_init
        else:
            self.lambda_init = 0.8 - 0.6 * math.exp(-0.3 * layer_idx)
        self.lambda_std_dev = sizes.lambda_std_dev
        self.lambda_q1 = nn.Parameter(torch.randn(self.head_dim) * self.lambda_std_dev)
        self.lambda_k1 = nn.Parameter(torch.randn(self.head_dim) * self.lambda_std_dev)
        self.lambda_q2 = nn.Parameter(torch.randn(self.head_dim) * self.lambda_std_dev)
        self.lambda_k2 = nn.Parameter(torch.randn(self.head_dim) * self.lambda_std_dev)
        self.difference_norm = DifferenceNorm(2 * self.head_dim, eps=sizes.difference_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        input_shape = hidden_states.shape[:-1]
        hidden_shape = (*input_shape, -1, self.head_dim)

        query_states = self.q_proj(hidden_states).view(hidden_shape).transpose(1, 2)
        key_states = self.k_proj(hidden_states).view(hidden_shape).transpose(1, 2)
        value_states = self.v_proj(hidden_states).view(hidden_shape).transpose(1, 2)

        if self.config.rope:
            cos, sin = position_embeddings
            query_states, key_states = apply_rotary_pos_emb(query_states, key_states, cos, sin)
        if past_key_values is not None:
            if self.config.shared_module:
                key_states, value_states = past_key_values.update(key_states, value_states, cache_slot)
            else:
                key_states, value_states = past_key_values.update(key_states, value_states, self.layer_idx)
        # Both heads of a pair read the values of both: (batch, kv heads, length, 2 * head_dim)
        value_states = torch.cat(value_states.chunk(2, dim=1), dim=-1).repeat(1, 2, 1, 1)

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

        signal, noise = attn_output.chunk(2, dim=2)
        lambda_1 = torch.exp(torch.sum(self.lambda_q1 * self.lambda_k1, dim=-1, dtype=torch.float32))
        lambda_2 = torch.exp(torch.sum(self.lambda_q2 * self.lambda_k2, dim=-1, dtype=torch.float32))
        lambda_full = lambda_1.to(signal.dtype) - lambda_2.to(signal.dtype) + self.lambda_init
        attn_output = (1 - self.lambda_init) * self.difference_norm(signal - lambda_full * noise)
        attn_output = attn_output.reshape(*input_shape, -1).contiguous()
        attn_output = self.o_proj(attn_output)
        return attn_output, attn_weights
