"""What layers take from earlier layers instead of making it themselves, as brackets over the strip of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from attrs import frozen

from eulerc.ir.core import Op
from eulerc.viz.canvas import Canvas

SHARED = "shared"
"""The value of an attribute whose op takes it from the last earlier layer that has one of its own."""

LEVEL = 14.0
"""Height of one bracket over the cells."""


APART = 3
"""Up to so many layers whose weights others share have a level of brackets each."""


@frozen
class Link:
    """The layers `takers` use what layer `giver` has for the attribute `name`."""

    name: str
    giver: int
    takers: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.takers[-1]


def links_of(layers: Sequence[Op]) -> tuple[Link, ...]:
    """Every link between layers, by attribute and in the order of depth."""
    names = dict.fromkeys(name for layer in layers for name, value in _attributes(layer) if value == SHARED)
    return tuple(link for name in names for link in _links(name, layers))


def _attributes(layer: Op) -> Iterator[tuple[str, object]]:
    return ((name, value) for op in layer.ops for name, value in op.attributes.items())


def _links(name: str, layers: Sequence[Op]) -> Iterator[Link]:
    takers: dict[int, list[int]] = {}
    giver: int | None = None
    for index, layer in enumerate(layers):
        values = [value for key, value in _attributes(layer) if key == name]
        if SHARED in values and giver is not None:
            takers.setdefault(giver, []).append(index)
        elif any(value not in (None, False, SHARED) for value in values):
            giver = index
    return (Link(name, giver, tuple(found)) for giver, found in takers.items())


def weight_links(modules: Sequence[int]) -> Iterator[Link]:
    """Layers that run with the weights of an earlier one; where that is so of many, on one level."""
    runs: dict[int, list[int]] = {}
    for index, module in enumerate(modules):
        runs.setdefault(module, []).append(index)
    shared = [found for found in runs.values() if len(found) > 1]
    for first, *others in shared:
        name = f"weights_of_layer_{first}" if len(shared) <= APART else "weights"
        yield Link(name, first, tuple(others))


def levels_of(links: Iterable[Link]) -> list[str]:
    """The names of what is shared, one bracket above the other."""
    return list(dict.fromkeys(link.name for link in links))


def draw_links(
    canvas: Canvas, links: Sequence[Link], first: int, last: int, top: float, center: Callable[[int], float]
) -> None:
    """Brackets over the row of layers `first` to `last`; cells begin at `top`, `center` is the middle of one."""
    levels = levels_of(links)
    for link in links:
        if link.giver <= last and link.end >= first:
            y = top - LEVEL * (1 + levels.index(link.name)) + 3
            left = center(link.giver) if link.giver >= first else center(first) - 10
            right = center(link.end) if link.end <= last else center(last) + 10
            start = [(left, top - 1)] if link.giver >= first else []
            canvas.path([*start, (left, y), (right, y)])
            for taker in link.takers:
                if first <= taker <= last:
                    canvas.path([(center(taker), y), (center(taker), top - 1)], arrow=True)
