"""The difference of two designs: keys with their old and new values, templates matched by what they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from attrs import frozen

from eulerc.compare.design import Design, Values

ALIKE = 0.5
"""Templates of different names that share at least this part of their keys and values are taken for one, changed."""

MANY_PAIRS = 4096
"""With more pairs than this, only templates of the same layer are held against each other."""


@frozen
class Change:
    """A key with its values; None where it is not set."""

    key: str
    old: Any
    new: Any


@frozen
class Pair:
    """A template of the old design and its counterpart in the new one, with the layers of both."""

    old: str
    new: str
    old_layers: tuple[int, ...]
    new_layers: tuple[int, ...]
    changes: tuple[Change, ...]


@frozen
class Moved:
    """Layers that were one template and are another."""

    old: str
    new: str
    layers: tuple[int, ...]


@frozen
class Difference:
    """What differs. `pairs` holds every pair, changed or not; `schedules` the two schedules where they differ."""

    old: Design
    new: Design
    is_same_model: bool
    model: tuple[Change, ...]
    notes: tuple[Change, ...]
    pairs: tuple[Pair, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    schedules: tuple[tuple[str, ...], tuple[str, ...]] | None
    moved: tuple[Moved, ...]

    @property
    def renamed(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if pair.old != pair.new)


def is_same_model(old: Design, new: Design) -> bool:
    """Whether two designs, read from their graphs, are one model; what templates are called does not count."""
    if any(changes(old.model, new.model)) or len(old.schedule) != len(new.schedule):
        return False
    pairs = dict.fromkeys(zip(old.schedule, new.schedule, strict=True))
    return not any(any(changes(old.templates[name], new.templates[other])) for name, other in pairs)


def difference(old: Design, new: Design, *, same: bool) -> Difference:
    """Compares two designs of one kind; `same` says that they are one model, whatever their specs look like."""
    matches = _matches(old, new)
    pairs = tuple(_pair(old, new, *names, same=same) for names in matches.items())
    renamed = tuple(matches.get(name, name) for name in old.schedule)
    moves = renamed != new.schedule and not same
    return Difference(
        old,
        new,
        same,
        () if same else tuple(changes(old.model, new.model)),
        tuple(changes(old.notes, new.notes)),
        pairs,
        tuple(name for name in new.templates if name not in matches.values()),
        tuple(name for name in old.templates if name not in matches),
        (old.schedule, new.schedule) if moves else None,
        tuple(_moved(old.schedule, renamed, new.schedule)) if moves else (),
    )


def changes(old: Values, new: Values) -> Iterator[Change]:
    """The keys that differ, in the order of the old design, then of the new; nested ones by their dotted path."""
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            for change in changes(before, after):
                yield Change(f"{key}.{change.key}", change.old, change.new)
        elif _differ(before, after):
            yield Change(key, before, after)


def _differ(before: Any, after: Any) -> bool:
    """Whether two values are not the same; what an op does not know is off."""
    # By identity: a number of 0 is set, and equals False
    if all(value is None or value is False for value in (before, after)):
        return False
    return bool(before != after or isinstance(before, bool) != isinstance(after, bool))


def _pair(old: Design, new: Design, name: str, other: str, *, same: bool) -> Pair:
    found = () if same else tuple(changes(old.templates[name], new.templates[other]))
    return Pair(name, other, tuple(old.layers_of(name)), tuple(new.layers_of(other)), found)


def _matches(old: Design, new: Design) -> dict[str, str]:
    """Old template to new one: equal ones first, then those of one name, then the most alike."""
    found: dict[str, str] = {}
    for name in old.templates:
        equal = [other for other in new.templates if _are_equal(old, name, new, other)]
        free = [other for other in equal if other not in found.values()]
        if free:
            found[name] = name if name in free else free[0]
    taken = set(found.values())
    found |= {name: name for name in old.templates if name not in found and name in new.templates.keys() - taken}
    for _, name, other in sorted(_likenesses(old, new, found), key=lambda item: -item[0]):
        if name not in found and other not in found.values():
            found[name] = other
    return {name: found[name] for name in old.templates if name in found}


def _are_equal(old: Design, name: str, new: Design, other: str) -> bool:
    """Whether two templates have one content; what a template is in a single layer counts in that layer alone."""
    if old.templates[name] != new.templates[other]:
        return False
    return not any("__" in one for one in (name, other)) or old.layers_of(name) == new.layers_of(other)


def _likenesses(old: Design, new: Design, found: dict[str, str]) -> Iterator[tuple[float, str, str]]:
    """How alike the templates are that have no counterpart yet, in content and in their layers, from 0 to 2."""
    left = [name for name in old.templates if name not in found]
    others = [other for other in new.templates if other not in found.values()]
    layers = {name: set(old.layers_of(name)) for name in left}
    new_layers = {other: set(new.layers_of(other)) for other in others}
    for name, other in _candidates(old, new, left, others):
        alike = _likeness(old.templates[name], new.templates[other])
        if alike >= ALIKE:
            both, either = layers[name] & new_layers[other], layers[name] | new_layers[other]
            yield alike + len(both) / len(either), name, other


def _candidates(old: Design, new: Design, left: list[str], others: list[str]) -> Iterable[tuple[str, str]]:
    """The pairs that may be one template: all, or where they are very many those that stand in the same layer."""
    if len(left) * len(others) <= MANY_PAIRS:
        return product(left, others)
    known, new_known = set(left), set(others)
    pairs = dict.fromkeys(zip(old.schedule, new.schedule, strict=False))
    return [(name, other) for name, other in pairs if name in known and other in new_known]


def _likeness(old: Values, new: Values) -> float:
    keys = old.keys() | new.keys()
    same = [key for key in keys if old.get(key) == new.get(key)]
    return len(same) / max(len(keys), 1)


def _moved(old: tuple[str, ...], renamed: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Moved]:
    """Layers that changed their template, where both designs have as many."""
    if len(old) != len(new):
        return
    groups: dict[tuple[str, str], list[int]] = {}
    for index, (before, now, after) in enumerate(zip(old, renamed, new, strict=True)):
        if now != after:
            groups.setdefault((before, after), []).append(index)
    for (before, after), layers in groups.items():
        yield Moved(before, after, tuple(layers))
