"""How state space mixers start: with steps spread over a range of magnitudes."""

import math

import torch


def step_biases(shape: torch.Size | tuple[int, ...], low: float, high: float) -> torch.Tensor:
    """Biases whose softplus, the step, is uniform in its logarithm between `low` and `high` (Mamba, section 3.6)."""
    steps = torch.empty(shape, dtype=torch.float32).uniform_(math.log(low), math.log(high)).exp()
    return (steps + torch.log(-torch.expm1(-steps))).to(torch.get_default_dtype())
