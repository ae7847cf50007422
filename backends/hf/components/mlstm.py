"""mLSTM: a matrix memory with exponential gates (Beck et al. 2024, "xLSTM")."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.exponential_gates import ForgetGate, InputGate
from eulerc.backends.hf.components.head_norm import BiaslessHeadNorm as HeadNorm
from eulerc.backends.hf.components.mlstm_cell import mlstm_chunkwise, mlstm_step
from eulerc.backends.hf.components.recurrent_state import keep_recurrent_state, read_recurrent_states


class MLSTM(nn.Module):
    """Heads with a matrix memory each, a norm over each head and a sigmoid gate (Beck et al. 2025, section 3)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.num_heads = sizes.num_attention_heads
        self.qk_head_dim = sizes.mlstm_qk_head_dim
        self.v_head_dim = sizes.mlstm_v_head_dim
        self.chunk_size = sizes.mlstm_chunk_size
        self.eps = sizes.mlstm_eps
        if config.caps_gates:
            self.gate_softcap = sizes.mlstm_gate_softcap

        self.q_proj = nn.Linear(config.hidden_size, self.num_heads * self.qk_head_dim, bias=config.mlstm_bias)
        self.k_proj = nn.Linear(config.hidden_size, self.num_heads * self.qk_head_dim, bias=config.mlstm_bias)
        self.v_proj = nn.Linear(config.hidden_size, self.num_heads * self.v_head_dim, bias=config.mlstm_bias)
        self.g_proj = nn.Linear(config.hidden_size, self.num_heads * self.v_head_dim, bias=config.mlstm_bias)
        self.input_gate = InputGate(config.hidden_size, self.num_heads)
        self.forget_gate = ForgetGate(config.hidden_size, self.num_heads)
        self.head_norm = HeadNorm(self.num_heads, self.v_head_dim, eps=sizes.mlstm_norm_eps)
        self.out_proj = nn.Linear(self.num_heads * self.v_head_dim, config.hidden_size, bias=config.mlstm_bias)

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
        query_states = self.q_proj(hidden_states).view(batch_size, seq_len, -1, self.qk_head_dim).transpose(1, 2)
        key_states = self.k_proj(hidden_states).view(batch_size, seq_len, -1, self.qk_head_dim).transpose(1, 2)
        value_states = self.v_proj(hidden_states).view(batch_size, seq_len, -1, self.v_head_dim).transpose(1, 2)
        input_gate = self.input_gate(hidden_states).transpose(1, 2).float()
        forget_gate = self.forget_gate(hidden_states).transpose(1, 2).float()
        if self.config.caps_gates:
            input_gate = self.gate_softcap * torch.tanh(input_gate / self.gate_softcap)
            forget_gate = self.gate_softcap * torch.tanh(forget_gate / self.gate_softcap)
        log_forget = nn.functional.logsigmoid(forget_gate)
        if attention_mask is not None:
            # Padding writes nothing and forgets nothing
            is_padding = attention_mask[:, None] == 0
            input_gate = input_gate.masked_fill(is_padding, -torch.inf)
            log_forget = log_forget.masked_fill(is_padding, 0.0)

        states = read_recurrent_states(past_key_values, layer_idx, 3) if past_key_values is not None else None
        inputs = (
            query_states.float() * self.qk_head_dim**-0.5,
            key_states.float(),
            value_states.float(),
            input_gate,
            log_forget,
        )
        if states is not None and seq_len == 1:
            output, states = mlstm_step(*inputs, states, self.eps)
        else:
            output, states = mlstm_chunkwise(*inputs, states, self.eps, self.chunk_size)
        if past_key_values is not None:
            for index, state in enumerate(states):
                keep_recurrent_state(past_key_values, state, layer_idx, index)

        output = self.head_norm(output.transpose(1, 2).to(dtype))
        return self.out_proj(torch.sigmoid(self.g_proj(hidden_states)) * output)
