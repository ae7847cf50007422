"""Mixture of experts in place of a feed-forward network."""

import math

import torch
from torch import nn
from transformers import PreTrainedConfig

from eulerc.backends.hf.components.experts import GatedExperts as Experts
from eulerc.backends.hf.components.gated_mlp import GatedMLP as SharedMLP
from eulerc.backends.hf.components.rms_norm import RMSNorm as ExpertNorm
from eulerc.backends.hf.components.rms_norm import RMSNorm as RouterNorm
from eulerc.backends.hf.components.router import TopKRouter as Router


def jitter(hidden_states: torch.Tensor, noise: float, training: bool) -> torch.Tensor:
    """In training, multiplies each entry by a draw from [1 - noise, 1 + noise] (Fedus et al. 2021)."""
    if not training:
        return hidden_states
    return hidden_states * torch.empty_like(hidden_states).uniform_(1.0 - noise, 1.0 + noise)


def drop_over_capacity(
    top_k_weights: torch.Tensor,
    top_k_index: torch.Tensor,
    num_experts: int,
    batch_size: int,
    capacity_factor: float,
) -> torch.Tensor:
    """Sets to 0 the weights (tokens, k) of what comes too late to an expert of its row, in the order of tokens.

    An expert takes capacity_factor times its even share of a row's tokens (Fedus et al. 2021, eq. 3).
    """
    index = top_k_index.reshape(batch_size, -1)
    capacity = math.ceil(capacity_factor * index.shape[1] / num_experts)
    chosen = nn.functional.one_hot(index, num_classes=num_experts)
    place = (chosen.cumsum(dim=1) * chosen).sum(dim=-1)
    return top_k_weights.masked_fill((place > capacity).view_as(top_k_weights), 0.0)


class SparseMoe(nn.Module):
    """Mixture of experts (Shazeer et al. 2017, eq. 1): each token goes through the experts that its router chooses."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        if config.router_input_norm:
            self.router_norm = RouterNorm(config.hidden_size, eps=sizes.router_input_norm_eps)
        if config.router_gain:
            self.router_scale = nn.Parameter(torch.ones(config.hidden_size))
        self.gate = Router(config, layer_idx)
        if config.expert_gain:
            self.expert_scale = nn.Parameter(torch.ones(self.gate.num_experts))
        if config.expert_norm:
            self.expert_norm = ExpertNorm(config.hidden_size, eps=sizes.expert_input_norm_eps)
        self.experts = Experts(config, layer_idx)
        if config.num_identity_experts is not None:
            self.num_experts = sizes.num_experts
        if config.moe_latent_size is not None:
            # The experts work in a narrower space
            self.fc1_latent_proj = nn.Linear(config.hidden_size, sizes.moe_latent_size, bias=False)
            self.fc2_latent_proj = nn.Linear(sizes.moe_latent_size, config.hidden_size, bias=False)
        if config.experts_scaling_factor is not None:
            self.scaling_factor = sizes.experts_scaling_factor
        if config.shared_experts:
            # Every token goes through these as well (Dai et al. 2024, eq. 9)
            self.shared_experts = SharedMLP(
                config,
                layer_idx,
                intermediate_size=sizes.shared_expert_intermediate_size,
            )
            if config.shared_expert_gate:
                self.shared_expert_gate = nn.Linear(config.hidden_size, 1, bias=False)
        if config.experts_output_bias:
            self.output_bias = nn.Parameter(torch.zeros(config.hidden_size))
        if sizes.expert_capacity_factor is not None:
            self.capacity_factor = sizes.expert_capacity_factor
        if sizes.router_jitter_noise is not None:
            self.jitter_noise = sizes.router_jitter_noise

    def forward(self, hidden_states: torch.Tensor, input_ids: torch.Tensor | None = None) -> torch.Tensor:
        orig_shape = hidden_states.shape
        if self.config.shared_experts:
            residuals = self.expert_norm(hidden_states) if self.config.expert_norm else hidden_states
        hidden_states = hidden_states.reshape(-1, orig_shape[-1])
        if self.config.router_jitter_noise is not None:
            hidden_states = jitter(hidden_states, self.jitter_noise, training=self.training)
        if self.config.router_input_norm or self.config.router_gain:
            router_states = self.router_norm(hidden_states) if self.config.router_input_norm else hidden_states
            if self.config.router_gain:
                router_states = router_states * self.router_scale * orig_shape[-1] ** -0.5
            _, top_k_weights, top_k_index = self.gate(router_states, input_ids)
        else:
            _, top_k_weights, top_k_index = self.gate(hidden_states, input_ids)
        if self.config.expert_gain:
            top_k_weights = top_k_weights * self.expert_scale[top_k_index]
        if self.config.expert_norm:
            hidden_states = self.expert_norm(hidden_states)
        if self.config.expert_capacity_factor is not None and self.training:
            top_k_weights = drop_over_capacity(
                top_k_weights,
                top_k_index,
                self.gate.num_experts,
                orig_shape[0],
                self.capacity_factor,
            )
        if self.config.moe_latent_size is not None:
            hidden_states = self.fc1_latent_proj(hidden_states)
        if self.config.num_identity_experts is not None:
            # Identity experts stand last; they are added by weight, and an expert of weight 0 stands in for them
            is_identity = top_k_index >= self.num_experts
            kept = hidden_states * (top_k_weights * is_identity).sum(dim=-1, keepdim=True).to(hidden_states.dtype)
            top_k_weights = top_k_weights.masked_fill(is_identity, 0.0)
            top_k_index = top_k_index.masked_fill(is_identity, 0)
        if self.config.weigh_expert_input:
            # The weight acts on what an expert reads: each token and choice is a row of its own
            expert_inputs = hidden_states.unsqueeze(1) * top_k_weights.unsqueeze(-1)
            expert_inputs = expert_inputs.to(hidden_states.dtype).flatten(0, 1)
            ones = torch.ones_like(top_k_weights).reshape(-1, 1)
            hidden_states = self.experts(expert_inputs, top_k_index.reshape(-1, 1), ones)
            hidden_states = hidden_states.view(*top_k_index.shape, -1).sum(dim=1)
        else:
            hidden_states = self.experts(hidden_states, top_k_index, top_k_weights)
        if self.config.num_identity_experts is not None:
            hidden_states = hidden_states + kept
        if self.config.moe_latent_size is not None:
            hidden_states = self.fc2_latent_proj(hidden_states)
        hidden_states = hidden_states.view(orig_shape)
        if self.config.experts_scaling_factor is not None:
            hidden_states = hidden_states * self.scaling_factor
        if self.config.shared_experts:
            if self.config.shared_expert_gate:
                shared_output = self.shared_experts(residuals)
                shared_output = self.shared_expert_gate(residuals).sigmoid() * shared_output
                hidden_states = hidden_states + shared_output
            else:
                hidden_states = hidden_states + self.shared_experts(residuals)
            if self.config.shared_experts_average:
                hidden_states = hidden_states / 2
        if self.config.experts_output_bias:
            hidden_states = hidden_states + self.output_bias
        return hidden_states
