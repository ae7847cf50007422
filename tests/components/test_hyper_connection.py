"""Hyper-connections compute what their papers write, and what the library computes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import DeepseekV4Config
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4HyperConnection, DeepseekV4HyperHead

from eulerc.backends.hf.components.hyper_connection import (
    ConstrainedHyperConnection,
    HyperConnection,
    HyperHead,
    LowRankHyperConnection,
    write_to_streams,
)

STREAMS, WIDTH, BATCH, LENGTH = 3, 16, 2, 5
EPS = 1e-5


def sizes(**changes: Any) -> Any:
    """A config with the sizes that hyper-connections read, in its one layer too."""
    own = {"hidden_size": WIDTH, "hc_mult": STREAMS, "hc_sinkhorn_iters": 4, "hc_rank": 2, "hc_eps": EPS}
    config = SimpleNamespace(**{**own, "hc_norm_eps": 1e-6, **changes})
    config.per_layer_config = [config]
    return config


def perturbed(module: nn.Module, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return module


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7)).to(dtype)


def normed(states: torch.Tensor) -> torch.Tensor:
    return states / (states.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


def after_sublayer(module: nn.Module, streams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a sublayer reads, and the streams behind one that doubles what it reads."""
    states, post, mixing = module(streams)
    return states, write_to_streams(streams, 2 * states, post, mixing)


def free_connection(module: Any, streams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Zhu et al. 2024 by hand for the streams (streams, width) of one token: eq. 2, 5 and 10-13."""
    read_scale, write_scale = module.scale
    states = normed(streams)
    write = write_scale * torch.tanh(states @ module.fn[1]) + module.post_base
    read = read_scale * torch.tanh(states @ module.fn[0]) + module.pre_base
    columns = read_scale * torch.tanh(states @ module.fn[2:].T)
    if isinstance(module, LowRankHyperConnection):
        left, right = columns[:, :2] + module.left_base, columns[:, 2:] + module.right_base
        mixing = torch.eye(STREAMS) + left @ right.T
    else:
        mixing = columns + module.mixing_base
    connection = torch.zeros(STREAMS + 1, STREAMS + 1)
    connection[0, 1:], connection[1:, 0], connection[1:, 1:] = write, read, mixing
    within = streams.T @ connection[1:, 0]
    return within, torch.outer(connection[0, 1:], 2 * within) + connection[1:, 1:].T @ streams


def constrained_connection(module: Any, streams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Xie et al. 2025 by hand for the streams of one token: eq. 3 and 7-9."""
    flat = normed(streams.flatten())
    found = module.fn @ flat
    pre, post, mixing = (
        part * scale + base
        for part, scale, base in zip(
            found.split([STREAMS, STREAMS, STREAMS**2]),
            module.scale,
            module.base.split([STREAMS, STREAMS, STREAMS**2]),
            strict=True,
        )
    )
    pre, post = torch.sigmoid(pre), 2 * torch.sigmoid(post)
    matrix = torch.exp(mixing.reshape(STREAMS, STREAMS))
    for _ in range(module.sinkhorn_iters):
        matrix = matrix / matrix.sum(dim=1, keepdim=True)
        matrix = matrix / matrix.sum(dim=0, keepdim=True)
    within = pre @ streams
    return within, torch.outer(post, 2 * within) + matrix.T @ streams


@pytest.mark.parametrize("kind", [HyperConnection, LowRankHyperConnection])
def test_free_weights_are_those_of_the_paper(kind: Any) -> None:
    module, streams = perturbed(kind(sizes(), 0, 1)), drawn(BATCH, LENGTH, STREAMS, WIDTH)
    states, written = after_sublayer(module, streams)
    for row in range(BATCH):
        for token in range(LENGTH):
            read, expected = free_connection(module, streams[row, token])
            torch.testing.assert_close(states[row, token], read)
            torch.testing.assert_close(written[row, token], expected)


def test_constrained_weights_are_those_of_the_paper() -> None:
    module = perturbed(ConstrainedHyperConnection(sizes(hc_eps=0.0), 0))
    streams = drawn(BATCH, LENGTH, STREAMS, WIDTH)
    states, written = after_sublayer(module, streams)
    for row in range(BATCH):
        for token in range(LENGTH):
            read, expected = constrained_connection(module, streams[row, token])
            torch.testing.assert_close(states[row, token], read)
            torch.testing.assert_close(written[row, token], expected)


@pytest.mark.parametrize("iterations", [0, 1, 40])
def test_iterations_lead_to_a_doubly_stochastic_matrix(iterations: int) -> None:
    module = perturbed(ConstrainedHyperConnection(sizes(hc_eps=0.0, hc_sinkhorn_iters=iterations), 0))
    _, _, mixing = module(drawn(BATCH, LENGTH, STREAMS, WIDTH))
    rows, columns = ((mixing.sum(dim) - 1).abs().max() < 1e-4 for dim in (-1, -2))
    assert (bool(rows), bool(columns)) == {0: (True, False), 1: (False, True), 40: (True, True)}[iterations]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("iterations", [1, 20])
def test_constrained_weights_are_those_of_the_library(dtype: torch.dtype, iterations: int) -> None:
    theirs_config = DeepseekV4Config(
        hidden_size=WIDTH, hc_mult=STREAMS, hc_sinkhorn_iters=iterations, hc_eps=EPS, rms_norm_eps=1e-6
    )
    theirs = perturbed(DeepseekV4HyperConnection(theirs_config))
    ours = ConstrainedHyperConnection(sizes(hc_sinkhorn_iters=iterations), 0)
    ours.load_state_dict(theirs.state_dict())
    streams = drawn(BATCH, LENGTH, STREAMS, WIDTH, dtype=dtype)
    post, mixing, states = theirs(streams)
    for mine, other in zip(ours(streams), (states, post, mixing), strict=True):
        assert torch.equal(mine, other)
    written = post.to(dtype).unsqueeze(-1) * states.unsqueeze(-2) + mixing.to(dtype).transpose(-1, -2) @ streams
    assert torch.equal(write_to_streams(streams, states, post, mixing), written)
    head = perturbed(DeepseekV4HyperHead(theirs_config))
    own = HyperHead(sizes())
    own.load_state_dict(head.state_dict())
    assert torch.equal(own(streams), head(streams))
