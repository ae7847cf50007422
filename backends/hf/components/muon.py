"""Muon, and AdamW beside it for what is no matrix, in one optimizer."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the groups with `use_muon`, AdamW (Loshchilov & Hutter 2019) for the others.

    Muon steps along the momentum with its singular values brought close to 1. Its steps are as large as AdamW's (Liu
    et al. 2025, eq. 4), so that both share learning rate and decay. A tensor of three dims is a stack of matrices.
    `iterations` holds the coefficients (a, b, c) of each Newton-Schulz iteration.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        momentum: float = 0.95,
        iterations: Sequence[Sequence[float]] = ((3.4445, -4.775, 2.0315),) * 5,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps, "momentum": momentum}
        super().__init__(params, {**defaults, "iterations": iterations, "use_muon": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self.muon_update if group["use_muon"] else self.adamw_update
            for parameter in group["params"]:
                if parameter.grad is not None:
                    change = update(parameter, parameter.grad, group)
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(change, alpha=-group["lr"])
        return loss

    def muon_update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        """Nesterov momentum, orthogonalised and scaled to AdamW's usual size of 0.2 an entry."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(state["momentum"], group["momentum"])
        size = 0.2 * max(parameter.shape[-2:]) ** 0.5
        return size * orthogonalized(update, group["iterations"]).to(parameter.dtype)

    def adamw_update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        """Adam's step (Kingma & Ba 2015, algorithm 1), without its learning rate."""
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        mean = state["exp_avg"] / (1 - beta1 ** state["step"])
        deviation = (state["exp_avg_sq"] / (1 - beta2 ** state["step"])).sqrt()
        return mean / (deviation + group["eps"])


def orthogonalized(matrices: torch.Tensor, iterations: Sequence[Sequence[float]]) -> torch.Tensor:
    """The matrices (..., rows, columns) with singular values near 1, in bfloat16, by Newton-Schulz iterations.

    Each iteration takes X to a X + b (XX') X + c (XX')^2 X.
    """
    states = matrices.bfloat16().flatten(0, -3) if matrices.dim() > 2 else matrices.bfloat16()[None]
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    if is_tall:
        states = states.mT
    states = states / states.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for a, b, c in iterations:
        gram = states @ states.mT
        factors = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        states = torch.baddbmm(states, factors, states, beta=a)
    return (states.mT if is_tall else states).reshape(matrices.shape)
