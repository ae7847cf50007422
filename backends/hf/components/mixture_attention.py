"""Attention whose query heads are those of chosen experts (Zhang et al. 2022, Mixture of Attention Heads)."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.apply_rotary import apply_rotary_pos_emb
from eulerc.backends.hf.components.attention_router import AttentionRouter
from eulerc.backends.hf.components.eager_attention import eager_attention_forward
from eulerc.backends.hf.components.rms_norm import RMSNorm as QKNorm


def expert_linear(hidden_states: torch.Tensor, weight: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Maps rows (rows, in) by weights (experts, out, in); the first expert's rows end at bounds[0], and so on."""
    rows = hidden_states.tensor_split(bounds)
    return torch.cat([nn.functional.linear(own, matrix) for own, matrix in zip(rows, weight, strict=True)])


class MixtureAttention(nn.Module):
    """Each token attends with the heads of a few experts, which share keys and values (Shen et al. 2024, JetMoE)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = sizes.head_dim
        self.num_experts = sizes.num_attention_experts
        self.top_k = sizes.num_attention_experts_per_tok
        self.num_key_value_groups = self.top_k
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

        # An expert has one query head for each key/value head
        self.expert_dim = sizes.num_key_value_heads * self.head_dim
        self.router = AttentionRouter(config, layer_idx)
        self.q_experts = nn.Parameter(torch.empty(self.num_experts, self.expert_dim, config.hidden_size))
        self.k_proj = nn.Linear(config.hidden_size, self.expert_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.expert_dim, bias=False)
        self.o_experts = nn.Parameter(torch.empty(self.num_experts, config.hidden_size, self.expert_dim))
        if config.attention_out_bias:
            self.o_bias = nn.Parameter(torch.zeros(config.hidden_size))
        if config.qk_norm == "head":
            self.q_norm = QKNorm(self.head_dim, eps=sizes.qk_norm_eps)
            self.k_norm = QKNorm(self.head_dim, eps=sizes.qk_norm_eps)

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

        tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
        _, top_k_weights, top_k_index = self.router(tokens)
        # One row for each token and choice, which experts take in their own order
        order = top_k_index.flatten().argsort()
        inverse = order.argsort()
        bounds = torch.bincount(top_k_index.flatten(), minlength=self.num_experts).cumsum(0)[:-1].cpu()

        query_states = expert_linear(tokens[order // self.top_k], self.q_experts, bounds)[inverse]
        # The heads that read one key/value head, one of each chosen expert, stand together
        query_states = query_states.view(*input_shape, self.top_k, -1, self.head_dim).transpose(-3, -2)
        query_states = query_states.reshape(hidden_shape)
        key_states = self.k_proj(hidden_states).view(hidden_shape)
        value_states = self.v_proj(hidden_states).view(hidden_shape)
        if self.config.qk_norm == "head" and not self.config.norm_after_rope:
            query_states = self.q_norm(query_states)
            key_states = self.k_norm(key_states)
        query_states = query_states.transpose(1, 2)
        key_states = key_states.transpose(1, 2)
        value_states = value_states.transpose(1, 2)

        if self.config.rope:
            cos, sin = position_embeddings
            query_states, key_states = apply_rotary_pos_emb(query_states, key_states, cos, sin)
        if self.config.norm_after_rope:
            query_states = self.q_norm(query_states)
            key_states = self.k_norm(key_states)
        if past_key_values is not None:
            if self.config.shared_module:
                key_states, value_states = past_key_values.update(key_states, value_states, cache_slot)
            else:
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

        attn_output = attn_output.reshape(*input_shape, -1, self.top_k, self.head_dim).transpose(-3, -2)
        attn_output = attn_output.reshape(-1, self.expert_dim)[order]
        attn_output = expert_linear(attn_output, self.o_experts, bounds)[inverse] * top_k_weights.view(-1, 1)
        attn_output = attn_output.view(*input_shape, self.top_k, -1).sum(dim=-2)
        if self.config.attention_out_bias:
            attn_output = attn_output + self.o_bias
        return attn_output, attn_weights
