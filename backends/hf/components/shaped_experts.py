"""Routed experts with more than an activation between their projections."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.integrations import use_experts_implementation


@use_experts_implementation
class ShapedExperts(nn.Module):
    """Experts whose gated units are clamped or computed in float32, as 3D tensors; a token goes through its top-k."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.num_experts = sizes.num_experts
        if sizes.moe_latent_size is not None:
            self.hidden_dim = sizes.moe_latent_size
        else:
            self.hidden_dim = config.hidden_size
        self.intermediate_dim = sizes.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(self.num_experts, 2 * self.intermediate_dim, self.hidden_dim))
        self.down_proj = nn.Parameter(torch.empty(self.num_experts, self.hidden_dim, self.intermediate_dim))
        if config.expert_bias:
            self.gate_up_proj_bias = nn.Parameter(torch.empty(self.num_experts, 2 * self.intermediate_dim))
            self.down_proj_bias = nn.Parameter(torch.empty(self.num_experts, self.hidden_dim))
        if sizes.swiglu_limit is not None:
            self.limit = sizes.swiglu_limit
        if config.swiglu_alpha is not None:
            self.alpha = sizes.swiglu_alpha
        else:
            self.act_fn = ACT2FN[sizes.hidden_act]

    def _apply_gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        # The library's batched and grouped products call this, too
        gate, up = gate_up.chunk(2, dim=-1)
        if self.config.experts_in_float32:
            gate, up = gate.float(), up.float()
        if self.config.swiglu_limit is not None:
            gate = gate.clamp(max=self.limit)
            up = up.clamp(min=-self.limit, max=self.limit)
        if self.config.swiglu_offset:
            up = up + 1
        if self.config.experts_in_float32:
            if self.config.swiglu_alpha is not None:
                return (gate * torch.sigmoid(gate * self.alpha) * up).to(gate_up.dtype)
            return (self.act_fn(gate) * up).to(gate_up.dtype)
        if self.config.swiglu_alpha is not None:
            return gate * torch.sigmoid(gate * self.alpha) * up
        return self.act_fn(gate) * up

    def forward(
        self,
        hidden_states: torch.Tensor,
        top_k_index: torch.Tensor,
        top_k_weights: torch.Tensor,
    ) -> torch.Tensor:
        """Maps tokens (tokens, hidden), with their experts and weights (tokens, k), to (tokens, hidden)."""
        final_hidden_states = torch.zeros_like(hidden_states)
        with torch.no_grad():
            # One class more than experts: expert parallelism marks what other ranks hold by index num_experts
            expert_mask = nn.functional.one_hot(top_k_index, num_classes=self.num_experts + 1)
            expert_mask = expert_mask.permute(2, 1, 0)
            expert_hit = torch.greater(expert_mask.sum(dim=(-1, -2)), 0).nonzero()

        for expert_idx in expert_hit:
            expert_idx = expert_idx[0]
            if expert_idx == self.num_experts:
                continue
            top_k_pos, token_idx = torch.where(expert_mask[expert_idx])
            current_state = hidden_states[token_idx]
            gate_up = nn.functional.linear(current_state, self.gate_up_proj[expert_idx])
            if self.config.expert_bias:
                gate_up = gate_up + self.gate_up_proj_bias[expert_idx]
            current_hidden_states = self._apply_gate(gate_up)
            current_hidden_states = nn.functional.linear(current_hidden_states, self.down_proj[expert_idx])
            if self.config.expert_bias:
                current_hidden_states = current_hidden_states + self.down_proj_bias[expert_idx]
            current_hidden_states = current_hidden_states * top_k_weights[token_idx, top_k_pos, None]
            final_hidden_states.index_add_(0, token_idx, current_hidden_states.to(final_hidden_states.dtype))

        return final_hidden_states
