"""Recurrences of single channels: what was there fades, and something is added."""

import torch


def linear_scan(decay: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """h[t] = decay[t] h[t-1] + inputs[t] from h = 0, both (batch, length, channels); gives all h.

    Neighbours are put together and the half as many pairs scanned in the same way (Blelloch 1990, section 1.4), so
    there are as many rounds as the length has binary digits. Nothing is divided: decays may be 0.
    """
    length = inputs.shape[1]
    if length == 1:
        return inputs
    first, second = slice(0, length - length % 2, 2), slice(1, None, 2)
    of_pairs = decay[:, second] * inputs[:, first] + inputs[:, second]
    at_second = linear_scan(decay[:, first] * decay[:, second], of_pairs)
    states = torch.empty_like(inputs)
    states[:, 0] = inputs[:, 0]
    states[:, second] = at_second
    states[:, 2::2] = decay[:, 2::2] * at_second[:, : (length - 1) // 2] + inputs[:, 2::2]
    return states


def linear_recurrence(decay: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """The recurrence as it is written, token by token."""
    state = torch.zeros_like(inputs[:, 0])
    states = []
    for token in range(inputs.shape[1]):
        state = decay[:, token] * state + inputs[:, token]
        states.append(state)
    return torch.stack(states, dim=1)
