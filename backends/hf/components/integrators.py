"""Integrators of x' = f(x) from time 0 to 1, where f(x) is what layers add to x."""

from collections.abc import Callable

import torch


def euler(
    layers: Callable[[torch.Tensor], torch.Tensor],
    hidden_states: torch.Tensor,
    steps: int,
) -> torch.Tensor:
    """Euler's method: one evaluation of the layers a step."""
    step_size = 1 / steps
    for _ in range(steps):
        hidden_states = hidden_states + step_size * (layers(hidden_states) - hidden_states)
    return hidden_states


def runge_kutta_4(
    layers: Callable[[torch.Tensor], torch.Tensor],
    hidden_states: torch.Tensor,
    steps: int,
) -> torch.Tensor:
    """The classical method of Runge and Kutta (1901): four evaluations of the layers a step."""
    step_size = 1 / steps
    for _ in range(steps):
        first_slope = layers(hidden_states) - hidden_states
        midpoint = hidden_states + step_size / 2 * first_slope
        second_slope = layers(midpoint) - midpoint
        midpoint = hidden_states + step_size / 2 * second_slope
        third_slope = layers(midpoint) - midpoint
        endpoint = hidden_states + step_size * third_slope
        fourth_slope = layers(endpoint) - endpoint
        slope = first_slope + 2 * second_slope + 2 * third_slope + fourth_slope
        hidden_states = hidden_states + step_size / 6 * slope
    return hidden_states
