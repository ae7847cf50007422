"""What the presets compile to runs: tiny siblings count as planned, and decode what they compute at once."""

from __future__ import annotations

import json

import pytest
import torch

from eulerc.api import compile, load
from eulerc.diagnostics.model import Diagnostics
from eulerc.ir.stats import statistics
from eulerc.presets.catalogue import catalogue
from tests.families import harness
from tests.presets.siblings import sibling

NAMES = list(catalogue())


@pytest.fixture(scope="module", params=NAMES)
def spec(request: pytest.FixtureRequest) -> harness.Spec:
    return sibling(request.param)


def test_sibling_has_the_parameters_that_stats_counts(spec: harness.Spec) -> None:
    diagnostics = Diagnostics()
    loaded = load("sibling.yaml", diagnostics, json.dumps(spec).encode())
    module = None if loaded is None else compile(loaded, diagnostics)
    assert module is not None, diagnostics.items
    model = harness.ours(spec, None)
    assert sum(tensor.numel() for tensor in model.parameters()) == statistics(module)["parameters"]["total"]


@torch.no_grad()
def test_sibling_decodes_what_it_computes_at_once(spec: harness.Spec) -> None:
    model = harness.ours(spec, None)
    full = harness.logits_of(model)
    assert harness.distance(harness.decoded(model, {"input_ids": harness.tokens()}), full) <= 2e-5
    assert full.std() > 0


def test_sibling_generates(spec: harness.Spec) -> None:
    prompt = harness.tokens()
    generated = harness.ours(spec, None).generate(prompt, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert torch.equal(generated[:, : prompt.shape[1]], prompt)
    # Of a model that thinks first only what is not thought is given back
    assert prompt.shape[1] < generated.shape[1] <= prompt.shape[1] + 4
