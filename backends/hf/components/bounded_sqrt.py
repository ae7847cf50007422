"""A square root that can be trained near zero."""

from typing import Any

import torch

LARGEST_SLOPE = 1000.0


class BoundedSqrt(torch.autograd.Function):
    """The square root, whose derivative is taken to be at most `LARGEST_SLOPE` (De et al. 2024, appendix A)."""

    @staticmethod
    def forward(ctx: Any, squares: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(squares)
        return torch.sqrt(squares)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (squares,) = ctx.saved_tensors
        return gradient / torch.sqrt((4.0 * squares).clamp(min=LARGEST_SLOPE**-2))
