"""RWKV's mixings in chunks and by steps compute what the paper writes, token by token."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from eulerc.backends.hf.components.channel_mix import ChannelMix
from eulerc.backends.hf.components.rwkv import TimeMix
from eulerc.backends.hf.components.wkv import wkv
from tests.components.harness import BATCH, LENGTH, component_config, hidden_states, perturb

CHANNELS = 5


def drawn(length: int, spread: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Keys, values, decays and bonuses."""
    generator = torch.Generator().manual_seed(length)
    key, value = (torch.randn(BATCH, length, CHANNELS, generator=generator) for _ in range(2))
    decay, bonus = (torch.randn(CHANNELS, generator=generator) for _ in range(2))
    return key * spread, value, -decay.exp(), bonus


def reference(key: torch.Tensor, value: torch.Tensor, decay: torch.Tensor, bonus: torch.Tensor) -> torch.Tensor:
    """Peng et al. 2023, eq. 16 as it stands: every weight of every pair of tokens, in 64 bits."""
    key, value, decay, bonus = (tensor.double() for tensor in (key, value, decay, bonus))
    output = torch.zeros_like(value)
    for token in range(key.shape[1]):
        weights = [torch.exp((token - 1 - past) * decay + key[:, past]) for past in range(token)]
        weights.append(torch.exp(bonus + key[:, token]))
        total = sum(weight * value[:, past] for past, weight in enumerate(weights))
        output[:, token] = total / sum(weights)
    return output


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_chunks_are_the_sums_of_the_paper(length: int, chunk_size: int) -> None:
    inputs = drawn(length)
    output, _ = wkv(*inputs, None, chunk_size)
    torch.testing.assert_close(output.double(), reference(*inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("first", [1, 4, 6])
def test_a_state_goes_on(first: int) -> None:
    key, value, *rates = drawn(13)
    wanted = reference(key, value, *rates)
    _, state = wkv(key[:, :first], value[:, :first], *rates, None, 4)
    output, last = wkv(key[:, first:], value[:, first:], *rates, state, 4)
    torch.testing.assert_close(output.double(), wanted[:, first:], atol=1e-5, rtol=1e-5)
    for token in range(first, 13):
        output, state = wkv(key[:, token : token + 1], value[:, token : token + 1], *rates, state, 4)
        torch.testing.assert_close(output[:, 0].double(), wanted[:, token], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, last, atol=1e-5, rtol=1e-5)


def test_keys_of_any_size_stay_finite() -> None:
    key, value, *rates = drawn(40, spread=300.0)
    tensors = [tensor.requires_grad_() for tensor in (key.detach(), value, *rates)]
    output, state = wkv(*tensors, None, 8)
    output.square().mean().backward()
    assert all(tensor.isfinite().all() for tensor in (output, state, *(tensor.grad for tensor in tensors)))


def shifted(states: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
    """Each token of (length, hidden) mixed with the one before (eqs. 11 to 13, 18 and 19)."""
    rows = []
    for token, state in enumerate(states):
        before = states[token - 1] if token else torch.zeros_like(state)
        rows.append(mix * state + (1 - mix) * before)
    return torch.stack(rows)


def time_mix(module: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Eqs. 11 to 17 of one sequence."""
    key = module.k_proj(shifted(states, module.time_mix_key))
    value = module.v_proj(shifted(states, module.time_mix_value))
    receptance = torch.sigmoid(module.r_proj(shifted(states, module.time_mix_receptance)))
    mean = reference(key[None], value[None], -module.time_decay.exp(), module.time_first)[0]
    return module.o_proj(receptance * mean.float())


def channel_mix(module: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Eqs. 18 to 21 of one sequence."""
    key = module.up_proj(shifted(states, module.time_mix_key))
    receptance = torch.sigmoid(module.r_proj(shifted(states, module.time_mix_receptance)))
    return receptance * module.down_proj(key.clamp(min=0) ** 2)


@pytest.mark.parametrize("pieces", [[LENGTH], [1] * LENGTH, [4, 1, 1, 5]], ids=str)
@pytest.mark.parametrize("kind", [TimeMix, ChannelMix])
@torch.no_grad()
def test_a_module_is_what_the_paper_writes(kind: type[nn.Module], pieces: list[int]) -> None:
    sizes = {"rwkv_size": 24, "rwkv_chunk_size": 4, "first_shift_state": 0}
    config = component_config(num_hidden_layers=1, layer_types=["linear_attention"], **sizes)
    module = perturb(kind(config, 0))
    states, cache = hidden_states(config), DynamicCache(config=config)
    output = torch.cat([module(piece, None, cache) for piece in states.split(pieces, dim=1)], dim=1)
    wanted = torch.stack([(time_mix if kind is TimeMix else channel_mix)(module, row) for row in states])
    torch.testing.assert_close(output, wanted, atol=1e-5, rtol=1e-5)
