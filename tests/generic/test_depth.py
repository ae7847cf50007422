"""What gates do in training, and to its numbers; the other generic checks run them as they decode."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from builds import VARIANTS, close, model, read, tokens

from eulerc.ir.stats import executed_flops, flops_per_token

NAMES = pytest.mark.parametrize("name", [name for name, text in VARIANTS.items() if "depth_gating" in text])


@NAMES
@torch.no_grad()
def test_training_costs_what_capacity_leaves(name: str) -> None:
    _, module = read(VARIANTS[name])
    lm = model(name).train()
    lm.set_experts_implementation("eager")
    for length in (8, 24):
        with FlopCounterMode(display=False) as counter:
            lm(tokens(1, length))
        assert counter.get_total_flops() == executed_flops(module, length, predicting=True)
        assert counter.get_total_flops() < executed_flops(module, length)
        assert flops_per_token(module, length)["forward"] <= counter.get_total_flops() // length


@NAMES
@torch.no_grad()
def test_only_in_training_the_loss_teaches_the_routers(name: str) -> None:
    lm, ids = model(name), tokens(2, 12)
    routers = [part for part in lm.modules() if type(part).__name__.endswith("DepthRouter")]
    losses = {}
    for training in (False, True):
        for coefficient in (0.0, 10.0):
            for router in routers:
                router.loss_coef = coefficient
            losses[training, coefficient] = lm.train(training)(ids, labels=ids).loss.item()
    assert losses[False, 0.0] == losses[False, 10.0]
    assert losses[True, 0.0] + 1.0 < losses[True, 10.0]


@NAMES
@torch.no_grad()
def test_with_a_cache_tokens_are_chosen_one_by_one_in_training_too(name: str) -> None:
    lm, ids = model(name), tokens(1, 12)
    expected = lm(ids, use_cache=True)
    trained = lm.train()(ids, past_key_values=type(expected.past_key_values)(config=lm.config))
    assert close(trained.logits, expected.logits)
    assert lm(ids).past_key_values is None
    assert not close(lm(ids).logits, expected.logits)


@NAMES
def test_recomputing_layers_changes_no_gradient(name: str) -> None:
    gradients = []
    for recomputes in (False, True):
        lm, ids = model(name).train(), tokens(2, 12)
        if recomputes:
            lm.gradient_checkpointing_enable()
        lm(ids, labels=ids).loss.backward()
        gradients.append([parameter.grad for parameter in lm.parameters() if parameter.grad is not None])
    assert all(close(ours, theirs) for ours, theirs in zip(*gradients, strict=True))
