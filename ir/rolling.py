"""Re-rolling: a flat list written as the shortest nest of repetitions, `[[@recurrent*3, @attention]*6]`.

`x*3` stands for three equal elements and `[x, y]*3` for the elements x, y three times over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby

from attrs import frozen

MAX_SEARCHED = 512
"""In longer lists only neighbours that are equal are drawn together, since the search takes cubic time at worst."""


@frozen
class Leaf:
    """The element at `index`, `count` times."""

    index: int
    count: int = 1


@frozen
class Group:
    """`items`, `count` times over."""

    items: tuple[Leaf | Group, ...]
    count: int


Rolled = tuple[Leaf | Group, ...]


def roll(texts: Sequence[str]) -> Rolled:
    """The rolled form of a list whose elements are written `texts`; equal texts are equal elements.

    Of all nests of repetitions it takes one with the fewest characters, the same one in every run.
    """
    if len(set(texts)) == len(texts):
        return tuple(Leaf(index) for index in range(len(texts)))
    if len(texts) > MAX_SEARCHED:
        return tuple(_runs(texts))
    return _Search(tuple(texts)).best(0, len(texts))[1]


def written(items: Rolled, texts: Sequence[str]) -> str:
    """Rolled items as they stand between the brackets of a list."""
    return ", ".join(
        (texts[item.index] if isinstance(item, Leaf) else f"[{written(item.items, texts)}]")
        + (f"*{item.count}" if item.count > 1 else "")
        for item in items
    )


def _runs(texts: Sequence[str]) -> Iterator[Leaf | Group]:
    for text, run in groupby(range(len(texts)), key=lambda index: texts[index]):
        indices = tuple(run)
        is_list = text.startswith("[") and len(indices) > 1
        yield Group((Leaf(indices[0]),), len(indices)) if is_list else Leaf(indices[0], len(indices))


class _Search:
    """Dynamic programming over the suffixes of every stretch that is repeated."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = texts
        self.best = cache(self._best)

    def _best(self, start: int, stop: int) -> tuple[int, Rolled]:
        """Characters (with a separator after each item) and items of the shortest form of texts[start:stop]."""
        found: list[tuple[int, Rolled]] = [(0, ())] * (stop - start + 1)
        for position in reversed(range(start, stop)):
            choices = [(length + found[end - start][0], item, end) for length, item, end in self._items(position, stop)]
            length, item, end = min(choices, key=lambda choice: choice[0])
            found[position - start] = (length, (item, *found[end - start][1]))
        return found[0]

    def _items(self, start: int, stop: int) -> Iterator[tuple[int, Leaf | Group, int]]:
        """What can stand first in texts[start:stop]: its length, the item, where the rest starts."""
        yield len(self.texts[start]) + 2, Leaf(start), start + 1
        for period, most in _periods(self.texts, start, stop):
            for count in range(most, 1, -1):
                length, item = self._repeated(start, period, count)
                yield length + 2, item, start + period * count

    def _repeated(self, start: int, period: int, count: int) -> tuple[int, Leaf | Group]:
        suffix = len(f"*{count}")
        if period == 1 and not self.texts[start].startswith("["):
            return len(self.texts[start]) + suffix, Leaf(start, count)
        length, items = self.best(start, start + period)
        return length + suffix, Group(items, count)


def _periods(texts: tuple[str, ...], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Each stretch at `start` that is repeated at once and is no repetition itself: its length and how often."""
    seen: list[tuple[int, int]] = []
    for period in range(1, (stop - start) // 2 + 1):
        body = texts[start : start + period]
        if body != texts[start + period : start + 2 * period]:
            continue
        if any(period % shorter == 0 and shorter * times >= period for shorter, times in seen):
            continue
        most = 2
        while (
            start + (most + 1) * period <= stop and texts[start + most * period : start + (most + 1) * period] == body
        ):
            most += 1
        seen.append((period, most))
        yield period, most
