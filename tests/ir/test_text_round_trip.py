"""The textual IR says all of a module: what is printed reads back as the same module, and prints the same again."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from eulerc.diagnostics.model import Diagnostics
from eulerc.ir.core import Module
from eulerc.ir.parser import parse_module
from eulerc.ir.printer import print_module
from eulerc.ir.span import NOWHERE
from eulerc.ir.verify import verify
from tests.strategies_ir import modules

thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parsed(text: str) -> Module:
    diagnostics = Diagnostics()
    module = parse_module(text, "x.eir", diagnostics)
    assert module is not None, "\n".join(f"{item.primary.span}: {item.message}" for item in diagnostics.items) + text
    assert diagnostics.items == []
    return module


@thorough
@given(modules())
def test_a_printed_module_reads_back_as_itself(module: Module) -> None:
    verify(module)
    text = print_module(module)
    again = parsed(text)
    verify(again)
    assert again == module
    # Equality takes 1, 1.0, True and a dim of size 1 for the same; the text does not.
    assert print_module(again) == text


@thorough
@given(modules(with_spans=True))
def test_places_survive_when_they_are_printed(module: Module) -> None:
    again = parsed(print_module(module, locs=True))
    for before, after in zip(module.model.walk(), again.model.walk(), strict=True):
        if before.span != NOWHERE:
            assert after.span == before.span
            assert after.spans == {}


@thorough
@given(modules())
def test_annotations_are_comments(module: Module) -> None:
    annotations = {id(op): f"1,024\n{{ [parameters] }} {op.name}" for op in module.model.walk()}
    annotated = print_module(module, annotations=annotations)
    assert annotated.count("# 1,024 { [parameters] }") >= len(annotations)
    assert print_module(parsed(annotated)) == print_module(module)
