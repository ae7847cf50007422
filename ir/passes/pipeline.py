"""The pipeline: every pass in order, each with the reason for its place, and the driver that verifies between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import frozen

from eulerc.ir.core import Module
from eulerc.ir.definition import definitions
from eulerc.ir.extensions import Extension, extensions_of
from eulerc.ir.passes.expand import expand
from eulerc.ir.passes.hand_on import hand_on
from eulerc.ir.passes.hoist import hoist
from eulerc.ir.passes.plan import plan
from eulerc.ir.passes.simplify import simplify
from eulerc.ir.verify import VerifyError, verify


@frozen
class Pass:
    """One step: the stage it takes, the stage it gives, and why it stands here."""

    run: Callable[[Module], Module]
    takes: str
    gives: str
    reason: str


PIPELINE = (
    Pass(expand, "arch", "layers", "first: all other passes read graphs"),
    Pass(simplify, "layers", "layers", "before anything is shared, named or counted: less to look at"),
    Pass(hand_on, "layers", "layers", "before classes are formed: it changes what they return"),
    Pass(hoist, "layers", "layers", "before classes are formed: tables belong to the model"),
    Pass(plan, "layers", "module", "last: classes and config fields need the final ops"),
)

STAGES = ("arch", "layers", "module")


def allowed_ops(stage: str, extensions: Iterable[Extension] = ()) -> frozenset[str]:
    """The ops a stage may hold, those of extensions among them."""
    further = {name: kind for extension in extensions for name, kind in extension.definitions.items()}
    kinds = {**definitions(), **further}
    return frozenset(name for name, kind in kinds.items() if stage in kind.stages) | {"model"}


def advance(module: Module, stage: str) -> Module:
    """Runs the pipeline to the end of `stage`, verifying before the first and after each pass.

    A module read from text at stage `layers` passes through that stage's passes again: they change nothing there.
    """
    check(module, "the input")
    for step in PIPELINE:
        if step.takes == module.stage and STAGES.index(step.gives) <= STAGES.index(stage):
            module = step.run(module)
            check(module, step.run.__name__)
    return module


def check(module: Module, after: str) -> None:
    """Verifies a module; a failure names the pass that broke it."""
    try:
        verify(module, allowed=allowed_ops(module.stage, extensions_of(module)))
    except VerifyError as error:
        error.add_note(f"after {after}")
        raise
