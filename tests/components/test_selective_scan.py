"""The scan and the step of Mamba compute its recurrence as it is written."""

from __future__ import annotations

import pytest
import torch

from eulerc.backends.hf.components.mamba1 import (
    carried_on,
    selective_recurrence,
    selective_scan,
    selective_state_update,
)

BATCH, CHANNELS, STATES, CHUNK = 2, 6, 5, 4
Tensors = dict[str, torch.Tensor]


def inputs(length: int, decay: float = 1.0) -> Tensors:
    generator = torch.Generator().manual_seed(length)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "hidden_states": drawn(BATCH, CHANNELS, length),
        "dt": drawn(BATCH, CHANNELS, length),
        "A": -drawn(CHANNELS, STATES).exp() * decay,
        "B": drawn(BATCH, STATES, length),
        "C": drawn(BATCH, STATES, length),
        "D": drawn(CHANNELS),
        "z": drawn(BATCH, CHANNELS, length),
    }


def part(tensors: Tensors, start: int, end: int) -> Tensors:
    return {name: tensor[..., start:end] if tensor.dim() == 3 else tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 13])
@pytest.mark.parametrize("decay", [1.0, 1000.0])
def test_the_scan_is_the_recurrence(length: int, decay: float) -> None:
    tensors = inputs(length, decay)
    output, _ = selective_scan(**tensors, chunk_size=CHUNK)
    torch.testing.assert_close(output, selective_recurrence(**tensors), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("first", [1, 4, 6])
def test_the_scan_goes_on_from_a_state_and_so_do_steps(first: int) -> None:
    tensors = inputs(13)
    wanted = selective_recurrence(**tensors)[..., first:]
    after = part(tensors, first, 13)
    _, state = selective_scan(**part(tensors, 0, first), chunk_size=CHUNK)
    output, last = selective_scan(**after, chunk_size=CHUNK)
    added, remaining = carried_on(state, after["dt"], after["A"], after["C"], after["z"])
    torch.testing.assert_close(output + added, wanted, atol=1e-5, rtol=1e-5)
    for token in range(13 - first):
        one = {name: tensor[..., token] if tensor.dim() == 3 else tensor for name, tensor in after.items()}
        stepped = selective_state_update(state, **one)
        torch.testing.assert_close(stepped, wanted[..., token], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, last + remaining, atol=1e-5, rtol=1e-5)


def test_gradients_of_the_scan_are_those_of_the_recurrence() -> None:
    tensors = {name: tensor.requires_grad_() for name, tensor in inputs(13, 1000.0).items()}
    weights = torch.randn(BATCH, CHANNELS, 13)
    scanned, _ = selective_scan(**tensors, chunk_size=CHUNK)
    found = torch.autograd.grad((scanned * weights).sum(), list(tensors.values()))
    wanted = torch.autograd.grad((selective_recurrence(**tensors) * weights).sum(), list(tensors.values()))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
