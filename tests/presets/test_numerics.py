"""A preset rounds as its family does: it states what a case that equals the library's class states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eulerc.presets.catalogue import catalogue
from tests.families.catalogue import FAMILIES
from tests.families.harness import Family, Spec
from tests.presets.siblings import sibling

DEFAULTS: dict[str, Any] = {
    "dtype": "float32",
    "float32_weight": False,
    "interleaved": False,
    "position": "pre",
    "precision": "model",
    "residual_dtype": "model",
    "router": "softmax",
    "router_float32": False,
    "scale_rounding": "none",
    "score": "top2",
    "sum": "stream_first",
    "unit_offset": False,
    "weight": True,
    "weights_dtype": "float32",
}
"""Keys that say how and in which dtype something is computed, and what they are where a spec does not say it."""

BY_NAME = {family.name.removesuffix("_text"): family for family in FAMILIES}


def stated(node: Any) -> Iterator[tuple[str, Any]]:
    """What a spec states under those keys, other than by default."""
    if isinstance(node, list):
        for item in node:
            yield from stated(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in DEFAULTS and not isinstance(value, dict | list) and value != DEFAULTS[key]:
                yield key, value
            yield from stated(value)


def presets() -> Iterator[Any]:
    """The presets whose family is held to the library's class."""
    for name in catalogue():
        spec = sibling(name)
        family = BY_NAME.get(spec["model"].get("family_hint"))
        if family is not None:
            yield pytest.param(spec, family, id=name)


@pytest.mark.parametrize(("spec", "family"), list(presets()))
def test_preset_states_what_a_case_of_its_family_states(spec: Spec, family: Family) -> None:
    assert set(stated(spec)) in [set(stated(case.spec)) for case in family.cases.values()]
