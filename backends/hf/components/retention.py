"""Multi-scale retention (Sun et al. 2023, "Retentive Network")."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.apply_rotary import apply_rotary_pos_emb
from eulerc.backends.hf.components.causal_conv import zero_padding
from eulerc.backends.hf.components.decayed_attention import decayed_linear_attention
from eulerc.backends.hf.components.recurrent_state import keep_recurrent_state


class Retention(nn.Module):
    """Linear attention that forgets by 1 - 2^(-5 - head) a token, a norm over each head, a gate (eqs. 5 to 8)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.num_heads = sizes.num_attention_heads
        self.head_dim = sizes.head_dim
        self.v_head_dim = sizes.v_head_dim
        if config.chunkwise:
            self.chunk_size = sizes.retention_chunk_size

        self.q_proj = nn.Linear(config.hidden_size, self.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.num_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.num_heads * self.v_head_dim, bias=False)
        self.g_proj = nn.Linear(config.hidden_size, self.num_heads * self.v_head_dim, bias=False)
        self.group_norm = nn.GroupNorm(
            self.num_heads,
            self.num_heads * self.v_head_dim,
            eps=sizes.retention_norm_eps,
        )
        self.o_proj = nn.Linear(self.num_heads * self.v_head_dim, config.hidden_size, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        layer_idx = cache_slot if self.config.shared_module else self.layer_idx
        batch_size, seq_len, _ = hidden_states.shape
        gate = self.g_proj(hidden_states)
        hidden_states = zero_padding(hidden_states, attention_mask)
        query_states = self.q_proj(hidden_states).view(batch_size, seq_len, -1, self.head_dim).transpose(1, 2)
        key_states = self.k_proj(hidden_states).view(batch_size, seq_len, -1, self.head_dim).transpose(1, 2)
        value_states = self.v_proj(hidden_states).view(batch_size, seq_len, -1, self.v_head_dim).transpose(1, 2)
        if self.config.rope:
            cos, sin = position_embeddings
            query_states, key_states = apply_rotary_pos_emb(query_states, key_states, cos, sin)

        state = past_key_values.get_recurrent_state(layer_idx) if past_key_values is not None else None
        heads = torch.arange(self.num_heads, dtype=torch.float32, device=hidden_states.device)
        output, state = decayed_linear_attention(
            query_states.float(),
            key_states.float() * self.head_dim**-0.5,
            value_states.float(),
            log_decay=torch.log1p(-(2.0 ** (-5 - heads))),
            chunk_size=self.chunk_size if self.config.chunkwise else seq_len,
            state=state,
        )
        if past_key_values is not None:
            keep_recurrent_state(past_key_values, state, layer_idx)

        output = output.transpose(1, 2).flatten(2).to(gate.dtype)
        output = self.group_norm(output.flatten(0, 1)).view_as(output)
        return self.o_proj(nn.functional.silu(gate) * output)
