"""Which layers run, in which order and with whose weights: the schedule as the ops that run it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise
from typing import Any

from attrs import evolve, frozen

from eulerc.ir.core import Op
from eulerc.ir.ops.integrate import ADAPTIVE, STAGES

LAYERED = ("stack", "integrate", "cross")
"""The ops that run layers."""


ATTENDING = "cross_attn"
"""The kind of merge that is a layer: it has attention, and with it a cache slot."""

CROSSING = "cross__attention"
"""The name of that layer's template, which no spec can give one of its own."""

INTEGRATOR = ("method", "steps", "output", "tolerance")
"""What is said of an integrator besides its layers."""


def pieces(schedule: Op) -> tuple[Op, ...]:
    """The ops that run the layers of a `schedule` op: stacks, and what stands for other layers."""
    return tuple(op for _, op in _placed(schedule))


@frozen
class Fork:
    """Streams of layers: the op that runs each, and the one that joins them, if that is a layer too."""

    numbers: Mapping[str, Any]
    ops: tuple[Op, ...]


def sections(schedule: Op) -> tuple[Op | Fork, ...]:
    """The same, with the ops of streams beside each other in one."""
    placed = _placed(schedule)
    found: list[Op | Fork] = []
    forks = {fork["first"]: fork for fork in schedule["forks"]}
    while placed:
        first, op = placed.pop(0)
        if first not in forks:
            found.append(op)
            continue
        end = _end(forks[first])
        inner = [other for place, other in placed if place < end]
        del placed[: len(inner)]
        found.append(Fork(forks[first], (op, *inner)))
    return tuple(found)


def _end(fork: Mapping[str, Any]) -> int:
    """The first layer behind a fork."""
    return int(fork["first"] + sum(fork["layers"]) + (fork["merge"] == ATTENDING))


def _edges(fork: Mapping[str, Any]) -> set[int]:
    """The first layers of a fork's streams, of what joins them, and of what stands behind."""
    return {*accumulate(fork["layers"], initial=int(fork["first"])), _end(fork)}


def _placed(schedule: Op) -> list[tuple[int, Op]]:
    """The ops that run layers, each with the place of its first one."""
    names, modules = schedule["schedule"], schedule["modules"]
    integrators = {item["first"]: item for item in schedule["integrators"]}
    inner = {edge for first, item in integrators.items() for edge in (first, first + item["layers"])}
    inner |= {edge for fork in schedule["forks"] for edge in _edges(fork)}
    crossings = {_end(fork) - 1 for fork in schedule["forks"] if fork["merge"] == ATTENDING}
    found = []
    for first, last in pairwise(sorted({0, len(names), *inner})):
        op = Op("cross" if first in crossings else "stack")
        if first in integrators:
            op = Op("integrate", attributes={key: integrators[first].get(key) for key in INTEGRATOR})
        numbers = None if modules is None else modules[first:last]
        placed = evolve(op, attributes={"schedule": names[first:last], **op.attributes, "modules": numbers})
        found.append((first, placed))
    return found


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
