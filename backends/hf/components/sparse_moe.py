"""Mixture of experts in place of a feed-forward network."""

import torch
from torch import nn
from transformers import PreTrainedConfig

from eulerc.backends.hf.components.experts import GatedExperts
from eulerc.backends.hf.components.gated_mlp import GatedMLP
from eulerc.backends.hf.components.router import TopKRouter


def jitter(hidden_states: torch.Tensor, noise: float, training: bool) -> torch.Tensor:
    """In training, multiplies each entry by a draw from [1 - noise, 1 + noise] (Fedus et al. 2021)."""
    if not training:
        return hidden_states
    return hidden_states * torch.empty_like(hidden_states).uniform_(1.0 - noise, 1.0 + noise)


class SparseMoe(nn.Module):
    """Mixture of experts (Shazeer et al. 2017, eq. 1): each token goes through the experts that its router chooses."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.gate = TopKRouter(config, layer_idx)
        self.experts = GatedExperts(config, layer_idx)
        if config.shared_experts:
            # Every token goes through these as well (Dai et al. 2024, eq. 9)
            self.shared_experts = GatedMLP(
                config,
                layer_idx,
                intermediate_size=sizes.shared_expert_intermediate_size,
            )
        if sizes.router_jitter_noise is not None:
            self.jitter_noise = sizes.router_jitter_noise

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        orig_shape = hidden_states.shape
        if self.config.shared_experts:
            residuals = hidden_states
        hidden_states = hidden_states.reshape(-1, orig_shape[-1])
        if self.config.router_jitter_noise is not None:
            hidden_states = jitter(hidden_states, self.jitter_noise, training=self.training)
        _, top_k_weights, top_k_index = self.gate(hidden_states)
        hidden_states = self.experts(hidden_states, top_k_index, top_k_weights).view(orig_shape)
        if self.config.shared_experts:
            hidden_states = hidden_states + self.shared_experts(residuals)
        return hidden_states
