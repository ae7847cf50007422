"""A difference as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen

from eulerc.compare.changes import Change, Difference, Pair
from eulerc.compare.comparison import Comparison
from eulerc.compare.design import Design
from eulerc.compare.numbers import Number
from eulerc.diagnostics.text import shorten, visible
from eulerc.ir.rolling import roll, written
from eulerc.layers import layers_text

COLORS = {"old": "31", "new": "32", "head": "1"}


def as_json(compared: Comparison) -> str:
    """JSON; the tutorial on comparing designs describes it."""
    found = compared.found
    content = {
        "schema": 1,
        "old": {"source": compared.old_source, "model": found.old.name},
        "new": {"source": compared.new_source, "model": found.new.name},
        "same_model": found.is_same_model,
        "model": [_change(change) for change in found.model],
        "templates": {
            "changed": [_pair(pair) for pair in found.pairs if pair.changes],
            "renamed": [{"old": pair.old, "new": pair.new} for pair in found.renamed],
            "added": [_whole(name, found.new) for name in found.added],
            "removed": [_whole(name, found.old) for name in found.removed],
        },
        "schedule": None
        if found.schedules is None
        else {
            "old": rolled(found.schedules[0]),
            "new": rolled(found.schedules[1]),
            "moved": [{"old": move.old, "new": move.new, "layers": list(move.layers)} for move in found.moved],
        },
        "notes": [_change(change) for change in found.notes],
        "numbers": {
            "seq_len": compared.length,
            **{
                item.key: {"old": item.old, "new": item.new, "delta": item.delta, "percent": item.percent}
                for item in compared.numbers
            },
        },
    }
    return json.dumps(content, indent=2)


def _change(change: Change) -> dict[str, Any]:
    return {"key": change.key, "old": change.old, "new": change.new}


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "old": pair.old,
        "new": pair.new,
        "old_layers": list(pair.old_layers),
        "new_layers": list(pair.new_layers),
        "changes": [_change(change) for change in pair.changes],
    }


def _whole(name: str, design: Design) -> dict[str, Any]:
    return {"name": name, "layers": design.layers_of(name), "values": design.telling[name]}


def rolled(schedule: Sequence[str]) -> str:
    """A schedule as the textual IR writes it."""
    return f"[{written(roll(schedule), schedule)}]"


def as_text(compared: Comparison, *, color: bool = False) -> str:
    """Text for people; colours are for terminals."""
    return "\n".join(_Text(compared, color).lines())


@frozen
class _Text:
    compared: Comparison
    color: bool

    @property
    def found(self) -> Difference:
        return self.compared.found

    def lines(self) -> Iterator[str]:
        old, new = visible(self.compared.old_source), visible(self.compared.new_source)
        yield f"{self.paint(old, 'old')} -> {self.paint(new, 'new')}"
        if self.found.is_same_model:
            yield "no difference in the model"
        else:
            yield from self.section("model", self.changes(self.found.model))
            yield from self.section("templates", self.templates())
            yield from self.section("schedule", self.schedule())
        yield from self.section("beside the model", self.beside())
        if not self.found.is_same_model:
            yield from self.section(f"numbers at length {self.compared.length:,}", self.numbers())

    def section(self, title: str, lines: Iterable[str]) -> Iterator[str]:
        found = list(lines)
        if found:
            yield from ("", self.paint(title, "head"), *(f"  {line}" for line in found))

    def changes(self, changes: Sequence[Change]) -> Iterator[str]:
        width = max((len(change.key) for change in changes), default=0)
        for change in changes:
            old, new = self.paint(_value(change.old), "old"), self.paint(_value(change.new), "new")
            yield f"{visible(change.key):<{width}}  {old} -> {new}"

    def templates(self) -> Iterator[str]:
        """Changes under the templates that they are common to, then templates that came or went."""
        groups: dict[tuple[str, ...], tuple[list[Pair], list[Change]]] = {}
        for change, pairs in self.by_change():
            groups.setdefault(tuple(pair.old for pair in pairs), (pairs, []))[1].append(change)
        for pairs, found in groups.values():
            yield from map(self.heading, pairs)
            yield from (f"  {line}" for line in self.changes(found))
        for name in self.found.removed:
            yield self.paint(f"- {visible(name)}, {_layers(self.found.old.layers_of(name))}", "old")
        for name in self.found.added:
            yield self.paint(f"+ {visible(name)}, {_layers(self.found.new.layers_of(name))}", "new")
            yield from (f"    {line}" for line in _columns(self.found.new.telling[name].items()))

    def by_change(self) -> Iterable[tuple[Change, list[Pair]]]:
        """Every change with the templates that have it."""
        seen: dict[str, tuple[Change, list[Pair]]] = {}
        for pair in self.found.pairs:
            for change in pair.changes:
                seen.setdefault(repr(change), (change, []))[1].append(pair)
        return seen.values()

    def heading(self, pair: Pair) -> str:
        name = visible(pair.old if pair.old == pair.new else f"{pair.old} -> {pair.new}")
        old, new = _layers(pair.old_layers), _layers(pair.new_layers)
        return f"{name}, {old}" if old == new else f"{name}, {old} -> {new}"

    def schedule(self) -> Iterator[str]:
        if self.found.schedules is None:
            return
        old, new = (rolled(schedule) for schedule in self.found.schedules)
        yield f"{self.paint(shorten(old, 200), 'old')} -> {self.paint(shorten(new, 200), 'new')}"
        for move in self.found.moved:
            yield f"{_layers(move.layers)}: {self.paint(move.old, 'old')} -> {self.paint(move.new, 'new')}"

    def beside(self) -> Iterator[str]:
        renamed = [Change(f"template {pair.old}", pair.old, pair.new) for pair in self.found.renamed]
        yield from self.changes([*self.found.notes, *renamed])

    def numbers(self) -> Iterator[str]:
        rows = [
            (item.label, f"{item.old:,}", f"{item.new:,}", f"{item.delta:+,}" if item.delta else "=", _percent(item))
            for item in self.compared.numbers
        ]
        table = [("", "old", "new", "change", ""), *rows]
        widths = [max(len(row[column]) for row in table) for column in range(5)]
        for label, *cells in table:
            yield "  ".join([f"{label:<{widths[0]}}", *map(str.rjust, cells, widths[1:])]).rstrip()

    def paint(self, text: str, role: str) -> str:
        return f"\x1b[{COLORS[role]}m{text}\x1b[0m" if self.color else text


def _percent(item: Number) -> str:
    return "" if item.percent is None or not item.delta else f"{item.percent:+} %"


def _layers(layers: Sequence[int]) -> str:
    return shorten(layers_text(layers), 80)


def _columns(values: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Keys and values in two columns."""
    shown = {visible(key): _value(value) for key, value in values}
    width = max(map(len, shown), default=0)
    return (f"{key:<{width}}  {value}" for key, value in shown.items())


def _value(value: Any) -> str:
    """A value as a spec would have it, on one line."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).replace("e-0", "e-").replace("e+", "e")
    if isinstance(value, dict):
        return shorten("{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}", 60)
    if isinstance(value, list):
        return shorten(f"[{', '.join(map(_value, value))}]", 60)
    return visible(shorten(str(value))) or '""'
