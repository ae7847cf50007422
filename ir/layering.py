"""Which layers run, in which order and with whose weights: the schedule as the ops that run it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from attrs import evolve

from eulerc.ir.core import Op
from eulerc.ir.ops.integrate import ADAPTIVE, STAGES

LAYERED = ("stack", "integrate")
"""The ops that run layers."""


INTEGRATOR = ("method", "steps", "output", "tolerance")
"""What is said of an integrator besides its layers."""


def pieces(schedule: Op) -> tuple[Op, ...]:
    """The ops that run the layers of a `schedule` op: stacks, and an integrator wherever one stands."""
    names, modules = schedule["schedule"], schedule["modules"]
    integrators = {item["first"]: item for item in schedule["integrators"]}
    inner = (edge for first, item in integrators.items() for edge in (first, first + item["layers"]))
    found = []
    for first, last in pairwise(sorted({0, len(names), *inner})):
        op = Op("stack")
        if first in integrators:
            op = Op("integrate", attributes={key: integrators[first].get(key) for key in INTEGRATOR})
        numbers = None if modules is None else modules[first:last]
        found.append(evolve(op, attributes={"schedule": names[first:last], **op.attributes, "modules": numbers}))
    return tuple(found)


def layered(graph: Op) -> tuple[Op, ...]:
    """The ops of a graph that run layers."""
    return tuple(op for op in graph.ops if op.name in LAYERED)


def evaluations(op: Op) -> int:
    """How often an op runs its layers."""
    if op.name != "integrate" or op["method"] == ADAPTIVE:
        return 1
    return STAGES[op["method"]] * int(op["steps"])


def is_adaptive(graph: Op) -> bool:
    """Whether some layers run as often as a solver likes, so that a model keeps no cache."""
    return any(op.get("method") == ADAPTIVE for op in layered(graph))


def runs(ops: Iterable[Op]) -> list[tuple[str, int]]:
    """Template and module of every layer that runs, in order.

    Modules are numbered in the order of their first run.
    """
    found: list[tuple[str, int]] = []
    start = 0
    for op in ops:
        names = op["schedule"]
        modules = op["modules"] if op["modules"] is not None else range(start, start + len(names))
        found += list(zip(map(str, names), modules, strict=True)) * evaluations(op)
        start += len(names)
    return found
