"""The chunked and stepwise forms of the delta rule compute the recurrence as it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from eulerc.backends.hf.components.delta_rule import (
    chunk_gated_delta_rule,
    chunk_kda,
    delta_recurrence,
    recurrent_gated_delta_rule,
    recurrent_kda,
)

BATCH, HEADS, KEY_DIM, VALUE_DIM, CHUNK = 2, 2, 3, 5, 4
Form = Callable[..., tuple[torch.Tensor, torch.Tensor]]
FORMS = pytest.mark.parametrize(
    ("in_chunks", "stepwise", "value_heads", "channels"),
    [
        (chunk_gated_delta_rule, recurrent_gated_delta_rule, 4, ()),
        (chunk_gated_delta_rule, recurrent_gated_delta_rule, 2, ()),
        (chunk_kda, recurrent_kda, 2, (KEY_DIM,)),
    ],
    ids=["gated_delta_rule", "gated_delta_rule_without_sharing", "kda"],
)


def drawn(length: int, value_heads: int, channels: tuple[int, ...], strength: float = 1.0) -> dict[str, torch.Tensor]:
    """Inputs whose `beta` may be above 1."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).float()

    return {
        "query": normal(BATCH, length, HEADS, KEY_DIM),
        "key": normal(BATCH, length, HEADS, KEY_DIM),
        "value": normal(BATCH, length, value_heads, VALUE_DIM),
        "g": -strength * nn.functional.softplus(normal(BATCH, length, value_heads, *channels)),
        "beta": 2 * normal(BATCH, length, value_heads).sigmoid(),
    }


def part(inputs: dict[str, torch.Tensor], start: int, stop: int) -> dict[str, Any]:
    return {name: tensor[:, start:stop] for name, tensor in inputs.items()}


@FORMS
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 13])
def test_chunks_are_the_recurrence(
    in_chunks: Form, stepwise: Form, value_heads: int, channels: tuple[int, ...], length: int
) -> None:
    inputs = drawn(length, value_heads, channels)
    output, _ = in_chunks(**inputs, chunk_size=CHUNK)
    torch.testing.assert_close(output, delta_recurrence(**inputs), atol=1e-5, rtol=1e-5)


@FORMS
@pytest.mark.parametrize("first", [1, 4, 6])
def test_chunks_and_steps_go_on_from_a_state(
    in_chunks: Form, stepwise: Form, value_heads: int, channels: tuple[int, ...], first: int
) -> None:
    inputs = drawn(13, value_heads, channels)
    wanted = delta_recurrence(**inputs)
    _, state = in_chunks(**part(inputs, 0, first), chunk_size=CHUNK)
    output, last = in_chunks(**part(inputs, first, 13), chunk_size=CHUNK, initial_state=state)
    torch.testing.assert_close(output, wanted[:, first:], atol=1e-5, rtol=1e-5)
    for token in range(first, 13):
        output, state = stepwise(**part(inputs, token, token + 1), initial_state=state)
        torch.testing.assert_close(output, wanted[:, token : token + 1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, last, atol=1e-5, rtol=1e-5)


@FORMS
@pytest.mark.parametrize("strength", [0.0, 1e-3, 30.0, 1e4])
def test_chunks_hold_for_decays_of_any_strength(
    in_chunks: Form, stepwise: Form, value_heads: int, channels: tuple[int, ...], strength: float
) -> None:
    inputs = {name: tensor.requires_grad_() for name, tensor in drawn(32, value_heads, channels, strength).items()}
    output, _ = in_chunks(**inputs, chunk_size=16)
    torch.testing.assert_close(output, delta_recurrence(**inputs), atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(output.square().sum(), list(inputs.values()))
    assert all(gradient.isfinite().all() for gradient in gradients)
