"""Every family's compiled spec computes what the library's class computes, and each stated feature is needed for it."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests.families import harness
from tests.families.catalogue import FAMILIES
from tests.families.harness import Case, Family, Feature

CASES = [(family, name) for family in FAMILIES for name in family.cases]
EQUAL = [(family, name) for family, name in CASES if not family.rounding]
UNEQUAL = [(family, name) for family, name in CASES if family.rounding]
FEATURES = [(family, feature) for family in FAMILIES for feature in family.features]
by_case = pytest.mark.parametrize(("family", "name"), CASES, ids=[f"{family.name}-{name}" for family, name in CASES])


@cache
def pair(family: Family, name: str, noise: float, dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Module, ...]:
    """The library's model and ours, with the same weights."""
    case = family.cases[name]
    state = harness.weights(family, case, noise)
    theirs = harness.original(family, case, state, dtype)
    return theirs, harness.ours(case.spec, harness.renamed(state, family.renames), dtype)


@cache
def reference(family: Family, name: str, noise: float) -> harness.Results:
    return harness.results(pair(family, name, noise)[0], family.losses, cached=family.cached, pads=family.pads)


@pytest.mark.parametrize("noise", [0.0, harness.NOISE], ids=["default", "perturbed"])
@by_case
def test_logits_and_losses_equal_those_of_the_library(family: Family, name: str, noise: float) -> None:
    wanted = reference(family, name, noise)
    found = harness.results(pair(family, name, noise)[1], family.losses)
    limit = harness.bound(wanted)
    for kind, logits in wanted.logits.items():
        assert harness.distance(found.logits[kind], logits) <= limit, kind
    for kind, loss in wanted.losses.items():
        assert harness.distance(found.losses[kind], loss) <= 2e-5 * max(1.0, loss.item()), kind


@pytest.mark.parametrize("noise", [0.0, harness.NOISE], ids=["default", "perturbed"])
@by_case
def test_gradients_equal_those_of_the_library(family: Family, name: str, noise: float) -> None:
    wanted = library_gradients(family, name, noise)
    found = harness.gradients(pair(family, name, noise)[1], family.losses)
    assert set(found) == set(wanted)
    for key, gradient in wanted.items():
        assert harness.distance(found[key], gradient) <= harness.gradient_bound(wanted, key), key


@cache
def library_gradients(family: Family, name: str, noise: float) -> harness.Tensors:
    """The library's gradients, by our names."""
    gradients = harness.gradients(pair(family, name, noise)[0], family.losses)
    return harness.renamed(gradients, family.renames)


@pytest.mark.parametrize(("family", "name"), EQUAL, ids=[f"{family.name}-{name}" for family, name in EQUAL])
def test_bfloat16_rounds_where_the_library_rounds(family: Family, name: str) -> None:
    assert torch.equal(harness.logits_of(pair(family, name, harness.NOISE, torch.bfloat16)[1]), narrow(family, name))


@pytest.mark.parametrize(("family", "name"), UNEQUAL, ids=[f"{family.name}-{name}" for family, name in UNEQUAL])
def test_bfloat16_that_rounds_otherwise_is_as_close_to_float32(family: Family, name: str) -> None:
    exact = harness.unrounded(family, family.cases[name], harness.NOISE)
    found = harness.logits_of(pair(family, name, harness.NOISE, torch.bfloat16)[1])
    assert (found - exact).abs().mean() <= 1.1 * (narrow(family, name) - exact).abs().mean()


@cache
def narrow(family: Family, name: str) -> torch.Tensor:
    """The library's logits in bfloat16."""
    return harness.logits_of(pair(family, name, harness.NOISE, torch.bfloat16)[0])


@by_case
def test_bfloat16_keeps_the_dtypes_that_the_library_keeps(family: Family, name: str) -> None:
    theirs, ours = pair(family, name, harness.NOISE, torch.bfloat16)
    assert harness.layout(ours) == harness.layout(theirs, family.renames)


@pytest.mark.parametrize(
    ("family", "feature"), FEATURES, ids=[f"{family.name}-{feature.name}" for family, feature in FEATURES]
)
def test_without_a_stated_feature_the_case_breaks(family: Family, feature: Feature) -> None:
    case = family.cases[feature.case]
    spec = harness.edited(case.spec, feature.edits)
    assert DIFFERENCES[feature.shows](family, feature.case, case, spec)


def without(family: Family, case: Case, spec: harness.Spec, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    state = harness.renamed(harness.weights(family, case, harness.NOISE), family.renames)
    return harness.ours(spec, state, dtype, partial=True)


def logits_differ(family: Family, name: str, case: Case, spec: harness.Spec) -> bool:
    wanted = reference(family, name, harness.NOISE)
    found = harness.logits_of(without(family, case, spec))
    return harness.distance(found, wanted.logits["full"]) > harness.bound(wanted)


def loss_differs(family: Family, name: str, case: Case, spec: harness.Spec) -> bool:
    wanted = reference(family, name, harness.NOISE).losses["full"]
    found = harness.results(without(family, case, spec), family.losses).losses["full"]
    return harness.distance(found, wanted) > 2e-5 * max(1.0, wanted.item())


def gradients_differ(family: Family, name: str, case: Case, spec: harness.Spec) -> bool:
    wanted = library_gradients(family, name, harness.NOISE)
    found = harness.gradients(without(family, case, spec), family.losses)
    return any(
        harness.distance(found[key], wanted[key]) > harness.gradient_bound(wanted, key)
        for key in wanted
        if key in found
    )


def bfloat16_differs(family: Family, name: str, case: Case, spec: harness.Spec) -> bool:
    return not torch.equal(harness.logits_of(without(family, case, spec, torch.bfloat16)), narrow(family, name))


def weights_differ(family: Family, name: str, case: Case, spec: harness.Spec) -> bool:
    return harness.layout(harness.ours(spec, None)) != harness.layout(pair(family, name, harness.NOISE)[1])


DIFFERENCES = {
    "weights": weights_differ,
    "logits": logits_differ,
    "loss": loss_differs,
    "gradients": gradients_differ,
    "bfloat16": bfloat16_differs,
}
