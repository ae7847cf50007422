"""mLSTM in chunks and by steps computes its recurrence as it is written."""

from __future__ import annotations

import math

import pytest
import torch

from eulerc.backends.hf.components.mlstm_cell import mlstm_chunkwise, mlstm_step

BATCH, HEADS, KEY_DIM, VALUE_DIM, EPS = 2, 3, 4, 5, 1e-6

Inputs = tuple[torch.Tensor, ...]


def drawn(length: int, spread: float = 1.0) -> Inputs:
    """Queries, keys, values, logarithms of the input gate and of the forget gate."""
    generator = torch.Generator().manual_seed(length)
    query, key = (torch.randn(BATCH, HEADS, length, KEY_DIM, generator=generator) for _ in range(2))
    value = torch.randn(BATCH, HEADS, length, VALUE_DIM, generator=generator)
    gates = (torch.randn(BATCH, HEADS, length, generator=generator) * spread for _ in range(2))
    input_gate, forget_gate = gates
    return query, key, value, input_gate, torch.nn.functional.logsigmoid(forget_gate)


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *gates: torch.Tensor) -> torch.Tensor:
    """Beck et al. 2024, eqs. 19 to 27, token by token in 64 bits without a stabiliser.

    The library's normaliser is bounded from below by 1 (eq. 21), and eps is added to it at the scale of the stabiliser.
    """
    output = torch.zeros(value.shape, dtype=torch.float64)
    for row in range(BATCH):
        for head in range(HEADS):
            memory = torch.zeros(VALUE_DIM, KEY_DIM, dtype=torch.float64)
            normaliser, stabiliser = torch.zeros(KEY_DIM, dtype=torch.float64), 0.0
            for token in range(query.shape[2]):
                q, k, v = (states[row, head, token].double() for states in (query, key, value))
                log_input, log_forget = (gate[row, head, token].item() for gate in gates)
                stabiliser = max(log_forget + stabiliser, log_input)
                memory = math.exp(log_forget) * memory + math.exp(log_input) * torch.outer(v, k)
                normaliser = math.exp(log_forget) * normaliser + math.exp(log_input) * k
                scale = max(abs((normaliser @ q).item()), 1.0) + EPS * math.exp(stabiliser)
                output[row, head, token] = memory @ q / scale
    return output


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_chunks_are_the_recurrence(length: int, chunk_size: int) -> None:
    inputs = drawn(length)
    output, _ = mlstm_chunkwise(*inputs, None, EPS, chunk_size)
    torch.testing.assert_close(output.double(), reference(*inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("first", [1, 4, 6])
def test_a_state_goes_on_in_chunks_and_by_steps(first: int) -> None:
    inputs = drawn(13)
    wanted = reference(*inputs)
    _, states = mlstm_chunkwise(*(tensor[:, :, :first] for tensor in inputs), None, EPS, 4)
    output, last = mlstm_chunkwise(*(tensor[:, :, first:] for tensor in inputs), states, EPS, 4)
    torch.testing.assert_close(output.double(), wanted[:, :, first:], atol=1e-5, rtol=1e-5)
    for token in range(first, 13):
        one = (tensor[:, :, token : token + 1] for tensor in inputs)
        output, states = mlstm_step(*one, states, EPS)
        torch.testing.assert_close(output[:, :, 0].double(), wanted[:, :, token], atol=1e-5, rtol=1e-5)
    for found, state in zip(states, last, strict=True):
        torch.testing.assert_close(found, state, atol=1e-5, rtol=1e-5)


def test_gates_of_any_size_stay_finite() -> None:
    inputs = drawn(40, spread=200.0)
    tensors = [tensor.requires_grad_() for tensor in (*inputs[:4], torch.full((BATCH, HEADS, 40), -300.0))]
    output, states = mlstm_chunkwise(*tensors, None, EPS, 8)
    output.square().mean().backward()
    assert all(tensor.isfinite().all() for tensor in (output, *states, *(tensor.grad for tensor in tensors)))
