"""Choice of two experts of each token, trained by an estimate of the gradient of choosing."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig


class ChoiceGradient(torch.autograd.Function):
    """The weight of a sampled expert, whose gradient is that of choosing it (Liu et al. 2024, SparseMixer-v2)."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        weight: torch.Tensor,
        index: torch.Tensor,
        probabilities: torch.Tensor,
        factor: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, index, probabilities)
        return weight * factor

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, index, probabilities = ctx.saved_tensors
        gradient = gradient * weight
        logits_gradient = (-probabilities * gradient).scatter_add(-1, index, gradient)
        return logits_gradient, None, None, None, None


def mix_one(
    router_logits: torch.Tensor,
    candidates: torch.Tensor,
    threshold: float,
    training: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and index (tokens, 1) of one expert among candidates, the logits with -inf for those taken.

    The best in evaluation; in training a draw among those within `threshold` of the best.
    """
    with torch.no_grad():
        best, index = candidates.max(dim=-1, keepdim=True)
        scale = router_logits.abs().clamp(min=best)
        is_far = (best - router_logits) / scale > 2 * threshold
    near = candidates.masked_fill(is_far, float("-inf"))
    if training:
        # The largest after Gumbel noise is a draw from the softmax
        index = (near - torch.empty_like(near).exponential_().log()).max(dim=-1, keepdim=True)[1]
    probabilities = nn.functional.softmax(near, dim=-1)
    weight = probabilities.gather(-1, index)
    if not training:
        return weight, index
    # Heun's third-order method: a midpoint takes the place of one draw in four that is not the best
    is_end = (index == probabilities.max(dim=-1, keepdim=True)[1]) | (torch.rand_like(weight) > 0.75)
    factor = torch.where(is_end, 1.0, 1.0 / 3.0).type_as(weight)
    return ChoiceGradient.apply(router_logits, weight, index, probabilities, factor), index


class SparseMixerRouter(nn.Module):
    """Two experts a token by SparseMixer-v2 (Liu et al. 2024; Phi-3.5-MoE): the best, and the best of the others."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.top_k = sizes.num_experts_per_tok
        self.num_experts = sizes.num_experts
        self.hidden_dim = config.hidden_size
        self.threshold = sizes.sparse_mixer_threshold
        self.weight = nn.Parameter(torch.empty(self.num_experts, self.hidden_dim))

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns logits (tokens, experts), and the weights and the indices of the chosen experts (tokens, 2)."""
        hidden_states = hidden_states.reshape(-1, self.hidden_dim)
        router_logits = nn.functional.linear(hidden_states, self.weight)
        first_weight, first = mix_one(router_logits, router_logits, self.threshold, self.training)
        others = router_logits.scatter(-1, first, float("-inf"))
        second_weight, second = mix_one(router_logits, others, self.threshold, self.training)
        top_k_weights = torch.cat((first_weight, second_weight), dim=-1)
        top_k_index = torch.cat((first, second), dim=-1)
        return router_logits, top_k_weights, top_k_index
