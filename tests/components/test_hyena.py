"""Hyena at once, in pieces and by steps is what the paper writes, one position and one channel at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, StaticCache

from eulerc.backends.hf.components.hyena import Hyena
from eulerc.backends.hf.components.long_convolution import convolved_at, long_convolution
from tests.components.harness import BATCH, LENGTH, component_config, hidden_states, perturb

SIZES: dict[str, Any] = {
    "hyena_depth": 3,
    "hyena_d_conv": 3,
    "hyena_filter_size": 6,
    "hyena_filter_layers": 2,
    "hyena_filter_features": 4,
    "hyena_filter_frequency": 1.5,
    "hyena_filter_decay": 5.0,
    "hyena_window": True,
}


def hyena(**sizes: Any) -> nn.Module:
    """A module with weights of every kind."""
    config = component_config(num_hidden_layers=1, layer_types=["hybrid"], **{**SIZES, **sizes})
    return perturb(Hyena(config, 0))


def taps(module: nn.Module, lag: int) -> torch.Tensor:
    """The taps of all orders at one lag, (depth, channels): Poli et al. 2023, eq. 7, and D of the operator at lag 0."""
    sizes = module.config
    time = lag / sizes.max_position_embeddings
    waves = [2 * math.pi * time * period for period in range(sizes.hyena_filter_features)]
    states = torch.tensor([time, *map(math.cos, waves), *map(math.sin, waves)])
    for layer in module.filter.layers:
        states = torch.sin(module.filter.frequency * (layer.weight @ states + layer.bias))
    values = (module.filter.out_proj.weight @ states).view(sizes.hyena_depth, sizes.hidden_size)
    for channel in range(sizes.hidden_size if sizes.hyena_window else 0):
        rate = sizes.hyena_filter_decay * (0.2 + 0.8 * channel / (sizes.hidden_size - 1))
        values[:, channel] *= math.exp(-rate * time)
    return values + module.filter.skip if lag == 0 else values


@torch.no_grad()
def reference(module: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """The operator of one sequence (length, hidden): eq. 4, of short convolutions of projections (section 3.2)."""
    projected = module.in_proj(states)
    mixed = torch.zeros_like(projected)
    for token in range(len(states)):
        mixed[token] = module.conv1d.bias
        for back in range(min(token + 1, module.config.hyena_d_conv)):
            mixed[token] += module.conv1d.weight[:, 0, -1 - back] * projected[token - back]
    *gates, values = mixed.chunk(module.config.hyena_depth + 1, dim=-1)
    filters = [taps(module, lag) for lag in range(len(states))]
    for order, gate in enumerate(gates):
        convolved = torch.zeros_like(values)
        for token in range(len(states)):
            for lag in range(token + 1):
                convolved[token] += filters[lag][order] * values[token - lag]
        values = gate * convolved
    return module.out_proj(values)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("window", [False, True])
@torch.no_grad()
def test_hyena_is_the_operator_of_the_paper(depth: int, window: bool) -> None:
    module = hyena(hyena_depth=depth, hyena_window=window)
    states = hidden_states(module.config)
    output = module(states, None)
    for row in range(BATCH):
        torch.testing.assert_close(output[row], reference(module, states[row]), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("pieces", [[LENGTH], [1] * LENGTH, [4, 1, 1, 5], [2, 7, 2]], ids=str)
@pytest.mark.parametrize("static", [False, True])
@torch.no_grad()
def test_hyena_goes_on_from_its_cache(pieces: list[int], static: bool) -> None:
    module = hyena()
    states = hidden_states(module.config)
    cache: Cache = DynamicCache(config=module.config)
    if static:
        cache = StaticCache(config=module.config, max_cache_len=LENGTH + 3)
    outputs = [module(piece, None, cache) for piece in states.split(pieces, dim=1)]
    wanted = torch.stack([reference(module, row) for row in states])
    torch.testing.assert_close(torch.cat(outputs, dim=1), wanted, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 13])
def test_a_long_convolution_is_a_sum_of_products(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    inputs, filters = torch.randn(2, length, 3, generator=generator), torch.randn(length, 3, generator=generator)
    wanted = torch.zeros_like(inputs)
    for token in range(length):
        for lag in range(token + 1):
            wanted[:, token] += filters[lag] * inputs[:, token - lag]
    torch.testing.assert_close(long_convolution(inputs, filters), wanted, atol=1e-5, rtol=1e-5)
    for first in range(length):
        positions = torch.arange(first, length)
        torch.testing.assert_close(convolved_at(inputs, filters, positions), wanted[:, first:], atol=1e-5, rtol=1e-5)
