"""An integrator of x' = f(x) from time 0 to 1 whose steps follow from the error that they make."""

from collections.abc import Callable

import torch


def dormand_prince(
    layers: Callable[[torch.Tensor], torch.Tensor],
    hidden_states: torch.Tensor,
    max_steps: int,
    tolerance: float,
) -> torch.Tensor:
    """Dormand and Prince's method of order 5(4) (1980), by torchdiffeq; the state is kept in float32.

    Raises AssertionError where `max_steps` do not reach time 1.
    """
    from torchdiffeq import odeint

    def slope(time: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        states = state.to(hidden_states.dtype)
        return (layers(states) - states).float()

    path = odeint(
        slope,
        hidden_states.float(),
        torch.tensor([0.0, 1.0], device=hidden_states.device),
        rtol=tolerance,
        atol=tolerance,
        method="dopri5",
        options={"max_num_steps": max_steps},
    )
    return path[-1].to(hidden_states.dtype)
