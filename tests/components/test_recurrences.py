"""Chunked and stepwise forms of recurrent mixers compute the recurrence as it is written."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eulerc.backends.hf.components.causal_conv import causal_conv1d_fn
from eulerc.backends.hf.components.decayed_attention import decayed_linear_attention, decayed_recurrence
from eulerc.backends.hf.components.mamba2 import mamba2_chunk_scan, mamba2_recurrence, mamba2_state_update
from eulerc.backends.hf.components.short_conv import short_convolution

BATCH, HEADS, HEAD_DIM, GROUPS, STATES, CHUNK = 2, 4, 3, 2, 5, 4


def mamba2_inputs(length: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(length)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {
        "hidden_states": drawn(BATCH, length, HEADS, HEAD_DIM).float(),
        "dt": nn.functional.softplus(drawn(BATCH, length, HEADS)).float(),
        "A": -drawn(HEADS).exp().float(),
        "B": drawn(BATCH, length, GROUPS, STATES).float(),
        "C": drawn(BATCH, length, GROUPS, STATES).float(),
        "D": drawn(HEADS).float(),
    }


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 13])
def test_mamba2_in_chunks_is_its_recurrence(length: int) -> None:
    inputs = mamba2_inputs(length)
    output, _ = mamba2_chunk_scan(**inputs, chunk_size=CHUNK)
    torch.testing.assert_close(output, mamba2_recurrence(**inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("first", [1, 4, 6])
def test_mamba2_goes_on_from_a_state_in_chunks_and_by_steps(first: int) -> None:
    inputs = mamba2_inputs(13)
    wanted = mamba2_recurrence(**inputs)
    before = {name: tensor[:, :first] if tensor.dim() > 1 else tensor for name, tensor in inputs.items()}
    after = {name: tensor[:, first:] if tensor.dim() > 1 else tensor for name, tensor in inputs.items()}
    _, state = mamba2_chunk_scan(**before, chunk_size=CHUNK)
    output, last = mamba2_chunk_scan(**after, chunk_size=CHUNK, initial_states=state)
    torch.testing.assert_close(output, wanted[:, first:], atol=1e-5, rtol=1e-5)
    for token in range(first, 13):
        one = {name: tensor[:, token] if tensor.dim() > 1 else tensor for name, tensor in inputs.items()}
        one["dt"] = one["dt"][..., None].expand(-1, -1, HEAD_DIM)
        one["A"] = one["A"][:, None, None].expand(-1, HEAD_DIM, STATES)
        one["D"] = one["D"][:, None].expand(-1, HEAD_DIM)
        stepped = mamba2_state_update(state, **one)
        torch.testing.assert_close(stepped, wanted[:, token], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, last, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_decayed_attention_in_chunks_is_its_recurrence(length: int, chunk_size: int) -> None:
    generator = torch.Generator().manual_seed(length)
    query, key = (torch.randn(BATCH, HEADS, length, HEAD_DIM, generator=generator) for _ in range(2))
    value = torch.randn(BATCH, HEADS, length, STATES, generator=generator)
    log_decay = -torch.rand(HEADS, generator=generator)
    wanted = decayed_recurrence(query, key, value, log_decay)
    output, state = decayed_linear_attention(query, key, value, log_decay, chunk_size)
    torch.testing.assert_close(output, wanted, atol=1e-5, rtol=1e-5)
    first = length // 2
    if first:
        parts = [[tensor[:, :, :first], tensor[:, :, first:]] for tensor in (query, key, value)]
        _, before = decayed_linear_attention(*(part[0] for part in parts), log_decay, chunk_size)
        rest, last = decayed_linear_attention(*(part[1] for part in parts), log_decay, chunk_size, before)
        torch.testing.assert_close(rest, wanted[:, :, first:], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(last, state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_a_causal_convolution_is_what_it_is_written_to_be(length: int, kernel: int) -> None:
    generator = torch.Generator().manual_seed(length)
    states = torch.randn(BATCH, length, STATES, generator=generator)
    weight, bias = torch.randn(STATES, kernel, generator=generator), torch.randn(STATES, generator=generator)
    convolved = causal_conv1d_fn(states.transpose(1, 2), weight, bias).transpose(1, 2)
    torch.testing.assert_close(convolved, short_convolution(states, weight, bias), atol=1e-5, rtol=1e-5)
