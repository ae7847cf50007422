"""How a router's logits are read as a distribution over the experts, for the load-balancing loss."""

import torch
from torch import nn


def softmax_scores(router_logits: torch.Tensor) -> torch.Tensor:
    """Softmax of the logits (tokens, experts), in their dtype as the library does."""
    return nn.functional.softmax(router_logits, dim=-1)


def sigmoid_scores(router_logits: torch.Tensor) -> torch.Tensor:
    """Sigmoids of the logits (tokens, experts), normalised over the experts (DeepSeek-V3, 2024, eq. 19)."""
    scores = router_logits.float().sigmoid()
    return scores / scores.sum(dim=-1, keepdim=True)


def sqrt_softplus_scores(router_logits: torch.Tensor) -> torch.Tensor:
    """Roots of the logits' softplus (tokens, experts), normalised over the experts."""
    scores = nn.functional.softplus(router_logits.float()).sqrt()
    return scores / scores.sum(dim=-1, keepdim=True)
