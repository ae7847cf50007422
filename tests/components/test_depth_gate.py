"""Mixture-of-Depths against the paper, a token at a time (Raposo et al. 2024, eq. 1 and section 3.5)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import DynamicCache, PreTrainedConfig, StaticCache

from eulerc.backends.hf.components.attention import Attention
from eulerc.backends.hf.components.depth_gate import DepthGate
from tests.components.harness import assert_float32_close, causal_mask, component_config, hidden_states, perturb

KINDS = pytest.mark.parametrize("router", ["top_k", "learned_gate"])
DTYPES = pytest.mark.parametrize("is_boolean", [False, True])


class Layer(nn.Module):
    """An attention layer with its residual, without positions."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.attention = Attention(config, layer_idx=0)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor, **rest: Any) -> torch.Tensor:
        if attention_mask.dtype == torch.bool:
            # Eager attention adds masks
            attention_mask = torch.where(attention_mask, 0.0, torch.finfo(torch.float32).min)
        attended, _ = self.attention(hidden_states, position_embeddings=None, attention_mask=attention_mask, **rest)
        return hidden_states + attended


def modules(router: str = "top_k", **sizes: Any) -> tuple[DepthGate, Layer, PreTrainedConfig]:
    kinds = {"layer_types": ["indexed_attention"], "num_hidden_layers": 1}
    config = component_config(rope=False, depth_router=router, **kinds, **sizes)
    return perturb(DepthGate(config, layer_idx=0)), perturb(Layer(config), seed=1), config


def one_by_one(gate: DepthGate, layer: Layer, states: torch.Tensor, goes: list[bool]) -> torch.Tensor:
    """Eq. 1 for one sequence (length, hidden): each token that goes sees those that went before it, and itself."""
    logits = states @ gate.router.proj.weight[0]
    output = states.clone()
    for now in range(len(states)):
        if goes[now]:
            sent = states[[index for index in range(now + 1) if goes[index]]][None]
            everything = torch.zeros(1, 1, sent.shape[1], sent.shape[1])
            added = (layer(sent, everything) - sent)[0, -1]
            weight = logits[now].sigmoid() if gate.config.depth_router == "learned_gate" else logits[now]
            output[now] = states[now] + weight * added
    return output


def best(logits: torch.Tensor, count: int) -> list[bool]:
    """Whether each token is among the `count` with the largest logits."""
    chosen = sorted(range(len(logits)), key=lambda index: -logits[index].item())[:count]
    return [index in chosen for index in range(len(logits))]


def masks(is_boolean: bool, padding: int = 2) -> torch.Tensor:
    additive = causal_mask(torch.float32, padding=padding)
    additive[0, :, :padding] = torch.finfo(torch.float32).min
    return additive == 0 if is_boolean else additive


@KINDS
@DTYPES
@torch.no_grad()
def test_outside_training_tokens_with_a_positive_logit_go_through(router: str, is_boolean: bool) -> None:
    gate, layer, config = modules(router)
    states = hidden_states(config)
    found = gate(layer, states, {}, masks(is_boolean))
    for row, padding in enumerate((2, 0)):
        kept = states[row, padding:]
        goes = (kept @ gate.router.proj.weight[0] > 0).tolist()
        assert len(set(goes)) == 2
        assert_float32_close(found[row, padding:], one_by_one(gate, layer, kept, goes))


@KINDS
@DTYPES
@pytest.mark.parametrize("capacity", [0.01, 0.3, 0.5, 1.0])
@torch.no_grad()
def test_in_training_the_best_go_through_and_padding_changes_nothing(
    router: str, is_boolean: bool, capacity: float
) -> None:
    gate, layer, config = modules(router, depth_capacity=capacity)
    states = hidden_states(config)
    found = gate.train()(layer, states, {}, masks(is_boolean))
    for row, padding in enumerate((2, 0)):
        kept = states[row, padding:]
        goes = best(kept @ gate.router.proj.weight[0], max(1, round(capacity * len(kept))))
        assert_float32_close(found[row, padding:], one_by_one(gate, layer, kept, goes))
    assert torch.equal(found[0, :2], states[0, :2])


def test_in_training_the_layer_runs_on_a_share_of_the_tokens() -> None:
    gate, layer, config = modules(depth_capacity=0.25)
    lengths: list[int] = []
    layer.register_forward_hook(lambda module, inputs, output: lengths.append(output.shape[1]))
    states = hidden_states(config)
    gate.train()(layer, states, {}, masks(True))
    gate.eval()(layer, states, {}, masks(True))
    assert lengths == [round(0.25 * states.shape[1]), states.shape[1]]


@torch.no_grad()
def test_the_loss_is_the_cross_entropy_of_being_among_the_best() -> None:
    gate, _, config = modules(depth_loss_coef=0.3)
    states = hidden_states(config)
    *_, loss = gate.router(states, masks(is_boolean=True))
    terms = []
    for row, padding in enumerate((2, 0)):
        logits = states[row, padding:] @ gate.router.proj.weight[0]
        targets = torch.tensor(best(logits, round(0.5 * len(logits))), dtype=torch.float32)
        terms.append(-targets * logits.sigmoid().log() - (1 - targets) * (1 - logits.sigmoid()).log())
    assert_float32_close(loss, 0.3 * torch.cat(terms).mean())


def test_what_a_layer_adds_has_a_gradient_through_the_router_in_training() -> None:
    gate, layer, config = modules()
    gate.train()(layer, hidden_states(config), {}, masks(True)).sum().backward()
    assert gate.router.proj.weight.grad is not None
    assert gate.router.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("chunks", [[1] * 9, [4, 1, 3, 1]])
@torch.no_grad()
def test_nobody_sees_a_token_that_went_past_when_it_is_cached(kind: str, chunks: list[int]) -> None:
    gate, layer, config = modules()
    states = hidden_states(config, batch=1, length=9)
    goes = (states[0] @ gate.router.proj.weight[0] > 0).tolist()
    static = kind == "static"
    cache = StaticCache(config=config, max_cache_len=12) if static else DynamicCache(config=config)
    outputs, start = [], 0
    for length in chunks:
        end = start + length
        columns = torch.arange(12 if static else end)
        mask = columns[None] <= torch.arange(start, end)[:, None]
        outputs.append(gate(layer, states[:, start:end], {}, mask[None, None], cache))
        start = end
    assert_float32_close(torch.cat(outputs, dim=1)[0], one_by_one(gate, layer, states[0], goes))
