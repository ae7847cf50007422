"""Gated delta networks (Yang et al. 2025, "Gated Delta Networks: Improving Mamba2 with Delta Rule")."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.integrations.accelerate import force_accelerate_hooks
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.causal_conv import causal_conv1d_fn, zero_padding
from eulerc.backends.hf.components.delta_rule import chunk_gated_delta_rule, recurrent_gated_delta_rule
from eulerc.backends.hf.components.rms_norm import RMSNorm as StateNorm
from eulerc.backends.hf.components.step_biases import step_biases


class GatedDeltaNet(nn.Module):
    """A memory of each head that fades and is told what it lacks, behind a short convolution (eq. 10)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.num_v_heads = sizes.linear_num_value_heads
        self.head_k_dim = sizes.linear_key_head_dim
        self.head_v_dim = sizes.linear_value_head_dim
        self.key_dim = sizes.linear_num_key_heads * self.head_k_dim
        self.value_dim = self.num_v_heads * self.head_v_dim
        self.conv_kernel_size = sizes.linear_conv_kernel_dim
        self.chunk_size = sizes.linear_chunk_size
        self.conv_dim = 2 * self.key_dim + self.value_dim

        self.in_proj_qkv = nn.Linear(config.hidden_size, self.conv_dim, bias=False)
        self.in_proj_z = nn.Linear(config.hidden_size, self.value_dim, bias=False)
        self.in_proj_b = nn.Linear(config.hidden_size, self.num_v_heads, bias=False)
        self.in_proj_a = nn.Linear(config.hidden_size, self.num_v_heads, bias=False)
        self.conv1d = nn.Conv1d(
            self.conv_dim,
            self.conv_dim,
            kernel_size=self.conv_kernel_size,
            groups=self.conv_dim,
            bias=False,
        )
        self.time_step_min = sizes.time_step_min
        self.time_step_max = sizes.time_step_max
        self.dt_bias = nn.Parameter(step_biases((self.num_v_heads,), self.time_step_min, self.time_step_max))
        if config.decay_in_float32:
            self.A_log = nn.Parameter(torch.empty(self.num_v_heads, dtype=torch.float32).uniform_(0.01, 16).log_())
        else:
            self.A_log = nn.Parameter(torch.empty(self.num_v_heads).uniform_(0.01, 16).log_())
        self.norm = StateNorm(self.head_v_dim, eps=sizes.linear_norm_eps)
        self.out_proj = nn.Linear(self.value_dim, config.hidden_size, bias=False)

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
        mixed_qkv = zero_padding(self.in_proj_qkv(hidden_states), attention_mask).transpose(1, 2)
        recurrent_state = None
        if past_key_values is not None:
            recurrent_state = past_key_values.get_recurrent_state(layer_idx)
            mixed_qkv = past_key_values.update_conv_state(
                mixed_qkv,
                layer_idx,
                conv_kernel_size=self.conv_kernel_size,
            )
        mixed_qkv = causal_conv1d_fn(
            mixed_qkv,
            self.conv1d.weight.squeeze(1),
            self.conv1d.bias,
            activation="silu",
        )[:, :, -seq_len:]
        query, key, value = mixed_qkv.transpose(1, 2).split([self.key_dim, self.key_dim, self.value_dim], dim=-1)
        query = query.view(batch_size, seq_len, -1, self.head_k_dim)
        key = key.view(batch_size, seq_len, -1, self.head_k_dim)
        value = value.view(batch_size, seq_len, -1, self.head_v_dim)

        beta = self.in_proj_b(hidden_states).sigmoid()
        if self.config.negative_eigenvalues:
            beta = beta * 2
        dt = nn.functional.softplus(self.in_proj_a(hidden_states).float() + self.dt_bias)
        log_decay = -torch.exp(self.A_log.float()) * dt
        if recurrent_state is not None and seq_len == 1:
            output, recurrent_state = recurrent_gated_delta_rule(
                query,
                key,
                value,
                g=log_decay,
                beta=beta,
                initial_state=recurrent_state,
                output_final_state=True,
                use_qk_l2norm_in_kernel=True,
            )
        else:
            output, recurrent_state = chunk_gated_delta_rule(
                query,
                key,
                value,
                g=log_decay,
                beta=beta,
                chunk_size=self.chunk_size,
                initial_state=recurrent_state,
                output_final_state=past_key_values is not None,
                use_qk_l2norm_in_kernel=True,
            )
        if past_key_values is not None:
            past_key_values.update_recurrent_state(recurrent_state, layer_idx)

        gate = self.in_proj_z(hidden_states).float()
        gate = gate.sigmoid() if self.config.linear_gate == "sigmoid" else nn.functional.silu(gate)
        output = self.norm(output).flatten(2) * gate
        return self.out_proj(output.to(hidden_states.dtype))
