"""Textual IR that was changed by hand is judged by the rules between layers, as a spec is."""

from __future__ import annotations

import pytest

from eulerc.api import compile, lint, load
from eulerc.diagnostics.model import Diagnostics
from eulerc.ir.printer import print_module
from tests.variants import VARIANTS

STAGES = ("arch", "layers", "module")


def printed(name: str, stage: str) -> str:
    diagnostics = Diagnostics()
    loaded = load("spec.yaml", diagnostics, VARIANTS[name].encode())
    module = None if loaded is None else compile(loaded, diagnostics, stage)
    assert module is not None, diagnostics.items
    return print_module(module)


def errors(text: str) -> set[str]:
    return {item.code for item in lint("spec.eir", text.encode()).diagnostics if item.severity == "error"}


@pytest.mark.parametrize("stage", STAGES)
def test_layers_that_take_keys_need_a_layer_that_makes_them(stage: str) -> None:
    text = printed("shared_kv_alibi", stage)
    assert errors(text) == set()
    assert errors(text.replace('kv = "own"', 'kv = "shared"')) == {"E0379"}
    assert errors(text.replace("window = 6", "window = 5", 1)) == {"E0380"}
