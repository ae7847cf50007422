"""The spec tree: what YAML said, with the place of every key and value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from attrs import evolve, field, frozen

from eulerc.ir.span import Span

ScalarValue: TypeAlias = "bool | int | float | str | None"


@frozen
class Scalar:
    """A leaf. `written` is the text as it stands in the file (after `${...}` it is still the expression)."""

    value: ScalarValue
    span: Span
    written: str = ""


@frozen
class Entry:
    """One `key: value` of a mapping."""

    key: str
    key_span: Span
    value: Node


@frozen
class Mapping:
    """A mapping in the order written; keys are distinct strings."""

    entries: tuple[Entry, ...]
    span: Span
    _index: dict[str, Entry] = field(init=False, eq=False, repr=False)

    @_index.default
    def _make_index(self) -> dict[str, Entry]:
        return {entry.key: entry for entry in self.entries}

    def get(self, key: str) -> Node | None:
        entry = self._index.get(key)
        return entry.value if entry is not None else None

    def entry(self, key: str) -> Entry | None:
        return self._index.get(key)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)


@frozen
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    span: Span


Node: TypeAlias = "Scalar | Mapping | Sequence"


def merge(base: Mapping, over: Mapping) -> Mapping:
    """`over` laid on `base`: mappings merge, anything else replaces."""
    entries = {entry.key: entry for entry in base}
    for entry in over:
        below = entries.get(entry.key)
        if below is not None and isinstance(below.value, Mapping) and isinstance(entry.value, Mapping):
            entry = evolve(entry, value=merge(below.value, entry.value))
        entries[entry.key] = entry
    return Mapping(tuple(entries.values()), base.span)
