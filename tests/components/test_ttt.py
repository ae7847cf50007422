"""Test-time training against the paper, a token at a time (Sun et al. 2024, "Learning to (Learn at Test Time)").

Eqs. 1 and 2 are a layer's output and update rule, eq. 4 the loss with the training view and the label view, eq. 5 the
output for the test view, eq. 6 the update in terms of gradients G_t; section 2.4 takes these at the weights of the last
mini-batch, and section 2.7 has the models, f(x) = x + LN(f_res(x)), the learned first weights and the learning rate.
"""

from __future__ import annotations

from itertools import product
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from transformers import DynamicCache, PreTrainedConfig

from eulerc.backends.hf.components import ttt, ttt_models
from tests.components.cases.ttt import SIZES
from tests.components.harness import component_config, fill_slots, hidden_states, perturb

BATCH, LENGTH, PADDING = 2, 11, 3
KINDS = pytest.mark.parametrize(
    ("is_mlp", "is_adamw", "steps"),
    [pytest.param(*kind, id="-".join(map(str, kind))) for kind in product((False, True), (False, True), (1, 2))],
)
COMPONENT: ModuleType = ttt


def mixer(monkeypatch: pytest.MonkeyPatch, is_mlp: bool, is_adamw: bool, steps: int) -> tuple[Any, PreTrainedConfig]:
    facts = {"inner_mlp": is_mlp, "inner_adamw": is_adamw, **SIZES, "ttt_inner_steps": steps}
    config = component_config(num_hidden_layers=1, layer_types=["linear_attention"], **facts)
    fill_slots(monkeypatch, COMPONENT, InnerModel=ttt_models.InnerMLP if is_mlp else ttt_models.InnerLinear)
    return perturb(ttt.TTTMixer(config, layer_idx=0)), config


def f(x: torch.Tensor, weights: list[torch.Tensor], layer: Any, head: int) -> torch.Tensor:
    """f(x) = x + LN(f_res(x)) for one token of one head (section 2.7)."""
    features = x @ weights[0]
    if len(weights) > 1:
        features = nn.functional.gelu(features) @ weights[1]
    norm = layer.inner_model.norm
    return x + nn.functional.layer_norm(features, features.shape, norm.weight[head], norm.bias[head], norm.eps)


def gradient(key: torch.Tensor, value: torch.Tensor, weights: list[torch.Tensor], layer: Any, head: int) -> list[Any]:
    """The gradient of |f(key; W) - value|^2 (eq. 4) at `weights`, as autograd takes it."""
    goes_through = torch.is_grad_enabled()
    with torch.enable_grad():
        weights = weights if goes_through else [matrix.detach().requires_grad_() for matrix in weights]
        loss = (f(key, weights, layer, head) - value).pow(2).sum()
        return list(torch.autograd.grad(loss, weights, create_graph=goes_through))


class Adam:
    """The moments of AdamW (Loshchilov & Hutter 2019, algorithm 2) for one matrix."""

    def __init__(self, like: torch.Tensor) -> None:
        self.mean, self.square, self.count = torch.zeros_like(like), torch.zeros_like(like), 0

    def stepped(self, matrix: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, Adam]:
        after = Adam(matrix)
        after.count = self.count + 1
        after.mean = SIZES["ttt_inner_beta_1"] * self.mean + (1 - SIZES["ttt_inner_beta_1"]) * gradient
        after.square = SIZES["ttt_inner_beta_2"] * self.square + (1 - SIZES["ttt_inner_beta_2"]) * gradient.pow(2)
        mean = after.mean / (1 - SIZES["ttt_inner_beta_1"] ** after.count)
        square = after.square / (1 - SIZES["ttt_inner_beta_2"] ** after.count)
        step = mean / (square.sqrt() + SIZES["ttt_inner_eps"]) + SIZES["ttt_inner_weight_decay"] * matrix
        return matrix - SIZES["ttt_inner_lr"] * step, after


def one_by_one(layer: Any, config: PreTrainedConfig, sequence: torch.Tensor) -> torch.Tensor:
    """A sequence (length, hidden) without padding: every token takes its steps from the last mini-batch's weights."""
    heads, width = config.num_attention_heads, config.head_dim
    first = layer.inner_model.first_weights()
    outputs: list[list[torch.Tensor]] = [[] for _ in sequence]
    query, key, value = (
        projection(sequence).view(-1, heads, width) for projection in (layer.q_proj, layer.k_proj, layer.v_proj)
    )
    eta = torch.sigmoid(layer.lr_proj(sequence))
    for head in range(heads):
        before = [matrix[head] for matrix in first]
        moments = [Adam(matrix) for matrix in before]
        for token in range(len(sequence)):
            if token % config.ttt_mini_batch_size == 0:
                # G_t of the mini-batch so far, by step
                sums = [[torch.zeros_like(matrix) for matrix in before] for _ in range(config.ttt_inner_steps)]
            weights, now = before, moments
            for step in range(config.ttt_inner_steps):
                found = gradient(key[token, head], value[token, head], weights, layer, head)
                sums[step] = [sum_ + eta[token, head] * new for sum_, new in zip(sums[step], found, strict=True)]
                if config.inner_adamw:
                    pairs = [kept.stepped(*rest) for kept, *rest in zip(now, weights, sums[step], strict=True)]
                    weights, now = [matrix for matrix, _ in pairs], [kept for _, kept in pairs]
                else:
                    rate = config.ttt_inner_lr
                    weights = [matrix - rate * sum_ for matrix, sum_ in zip(weights, sums[step], strict=True)]
            outputs[token].append(f(query[token, head], weights, layer, head))
            if (token + 1) % config.ttt_mini_batch_size == 0:
                before, moments = weights, now
    return layer.o_proj(torch.stack([torch.cat(heads_of_one) for heads_of_one in outputs]))


def run(layer: Any, states: torch.Tensor, mask: torch.Tensor, parts: list[int], cache: Any) -> torch.Tensor:
    pieces = zip(states.split(parts, dim=1), mask.split(parts, dim=1), strict=True)
    return torch.cat([layer(piece, part, past_key_values=cache) for piece, part in pieces], dim=1)


@KINDS
@pytest.mark.parametrize("parts", [[11], [1] * 11, [5, 6], [4, 1, 2, 4], [2, 9]], ids=str)
@torch.no_grad()
def test_chunks_and_steps_are_what_the_paper_writes(
    monkeypatch: pytest.MonkeyPatch, is_mlp: bool, is_adamw: bool, steps: int, parts: list[int]
) -> None:
    layer, config = mixer(monkeypatch, is_mlp, is_adamw, steps)
    states = hidden_states(config, BATCH, LENGTH)
    mask = torch.ones(BATCH, LENGTH, dtype=torch.long)
    mask[1, :PADDING] = 0
    output = run(layer, states, mask, parts, None if len(parts) == 1 else DynamicCache(config=config))
    torch.testing.assert_close(output[0], one_by_one(layer, config, states[0]), atol=2e-5, rtol=2e-5)
    wanted = one_by_one(layer, config, states[1, PADDING:])
    torch.testing.assert_close(output[1, PADDING:], wanted, atol=2e-5, rtol=2e-5)


@torch.no_grad()
def test_padding_on_the_right_and_in_between_is_not_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, config = mixer(monkeypatch, is_mlp=False, is_adamw=True, steps=2)
    states = hidden_states(config, BATCH, LENGTH)
    mask = torch.tensor([[1] * 7 + [0] * 4, [1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1]])
    output = layer(states, mask)
    for row in range(BATCH):
        real = mask[row].bool()
        torch.testing.assert_close(
            output[row, real], one_by_one(layer, config, states[row, real]), atol=2e-5, rtol=2e-5
        )


@torch.no_grad()
def test_a_row_of_padding_leaves_its_state_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, config = mixer(monkeypatch, is_mlp=True, is_adamw=True, steps=1)
    states = hidden_states(config, BATCH, LENGTH)
    mask = torch.ones(BATCH, LENGTH, dtype=torch.long)
    mask[1, 5:9] = 0
    output = run(layer, states, mask, [5, 4, 2], DynamicCache(config=config))
    real = mask[1].bool()
    torch.testing.assert_close(output[1, real], one_by_one(layer, config, states[1, real]), atol=2e-5, rtol=2e-5)


@KINDS
def test_gradients_go_through_the_training_of_the_inner_model(
    monkeypatch: pytest.MonkeyPatch, is_mlp: bool, is_adamw: bool, steps: int
) -> None:
    layer, config = mixer(monkeypatch, is_mlp, is_adamw, steps)
    states = hidden_states(config, 1, 6)
    found, wanted = ([], [])
    for gradients, output in ((found, layer(states, None)[0]), (wanted, one_by_one(layer, config, states[0]))):
        output.pow(2).sum().backward()
        gradients += [parameter.grad.clone() for parameter in layer.parameters()]
        layer.zero_grad()
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4 * theirs.abs().max().item(), rtol=1e-4)
