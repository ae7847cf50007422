"""What layers take from earlier layers instead of making it themselves, as brackets over the strip of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from attrs import frozen

from eulerc.ir.core import Op
from eulerc.ir.definition import Handed, definition
from eulerc.viz.canvas import Canvas

LEVEL = 14.0
"""Height of one bracket over the cells."""


APART = 3
"""Up to so many layers whose weights others share have a level of brackets each."""


@frozen
class Link:
    """The layers `takers` use a value that layer `giver` has made; `key` asks for it, `level` is that of its kind."""

    key: str
    giver: int
    takers: tuple[int, ...]
    level: int = 0

    @property
    def end(self) -> int:
        return self.takers[-1]


def links_of(layers: Sequence[Op]) -> tuple[Link, ...]:
    """Every link between layers, kind by kind and in the order of depth."""
    taken = [value for layer in layers for op in layer.ops for value in definition(op.name).takes(op)]
    kinds = {(value.key, value.kind): value for value in taken}
    return tuple(link for level, value in enumerate(kinds.values()) for link in _links(value, level, layers))


def _links(value: Handed, level: int, layers: Sequence[Op]) -> Iterator[Link]:
    takers: dict[int, list[int]] = {}
    giver: int | None = None
    for index, layer in enumerate(layers):
        if giver is not None and any(value in definition(op.name).takes(op) for op in layer.ops):
            takers.setdefault(giver, []).append(index)
        if any(op.get("hands_on") and value in definition(op.name).offers(op) for op in layer.ops):
            giver = index
    return (Link(value.key, giver, tuple(found), level) for giver, found in takers.items())


def weight_links(modules: Sequence[int], level: int) -> Iterator[Link]:
    """Layers that run with the weights of an earlier one; where that is so of many, on one level."""
    runs: dict[int, list[int]] = {}
    for index, module in enumerate(modules):
        runs.setdefault(module, []).append(index)
    shared = [found for found in runs.values() if len(found) > 1]
    for place, (first, *others) in enumerate(shared):
        if len(shared) <= APART:
            yield Link(f"weights_of_layer_{first}", first, tuple(others), level + place)
        else:
            yield Link("weights", first, tuple(others), level)


def levels_of(links: Iterable[Link]) -> int:
    """How many brackets stand one above the other."""
    return len({link.level for link in links})


def draw_links(
    canvas: Canvas, links: Sequence[Link], first: int, last: int, top: float, center: Callable[[int], float]
) -> None:
    """Brackets over the row of layers `first` to `last`; cells begin at `top`, `center` is the middle of one."""
    for link in links:
        if link.giver <= last and link.end >= first:
            y = top - LEVEL * (1 + link.level) + 3
            left = center(link.giver) if link.giver >= first else center(first) - 10
            right = center(link.end) if link.end <= last else center(last) + 10
            start = [(left, top - 1)] if link.giver >= first else []
            canvas.path([*start, (left, y), (right, y)])
            for taker in link.takers:
                if first <= taker <= last:
                    canvas.path([(center(taker), y), (center(taker), top - 1)], arrow=True)
