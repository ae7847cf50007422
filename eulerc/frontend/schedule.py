"""The layer schedule: runs, patterns, overrides of runs and of single layers, laid out layer by layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, cycle, islice, repeat
from typing import Any

from attrs import evolve, frozen

from eulerc.diagnostics.model import Diagnostics
from eulerc.diagnostics.suggest import closest
from eulerc.frontend import blocks, tree
from eulerc.frontend.environment import Environment
from eulerc.frontend.expression import resolve
from eulerc.frontend.schema import Reader, plain
from eulerc.ir.context import UnreadError, Values
from eulerc.ir.span import Span

MAX_LAYERS = 4096
OF_LAYERS = ("with", "override", "override_at")
"""Keys of a run whose expressions may use the index of the layer."""

RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


@frozen
class Layer:
    """One layer: its template, the template's parameters, and what replaces keys of it."""

    index: int
    template: str
    span: Span
    parameters: tree.Mapping | None = None
    overrides: tuple[tree.Mapping, ...] = ()


def layers_of(
    node: tree.Node | None, templates: Iterable[str] | None, environment: Environment, reader: Reader
) -> list[Layer]:
    """Every layer of the schedule, in order; errors are reported. `templates` is None if nobody knows their names.

    Behind a run of unknown length nobody knows the numbers of the layers, so overrides of single layers are not judged.
    """
    if node is None:
        return []
    if not isinstance(node, tree.Sequence) or not node.items:
        reader.diagnostics.error(
            "E0501", "layer_schedule has no layers", node.span, "takes a list of runs", help="add `- template: NAME`"
        )
        return []
    known = None if templates is None else tuple(templates)
    layers: list[Layer] = []
    numbered = True
    for position, item in enumerate(node.items):
        item = _evaluated(item, lambda key: key not in OF_LAYERS, environment, reader.diagnostics)
        run = _Run(item, f"layer_schedule[{position}]", known, environment, reader, numbered).layers(len(layers))
        numbered &= run is not None
        layers += run or []
        if len(layers) > MAX_LAYERS:
            reader.diagnostics.error(
                "E0502", f"more than {MAX_LAYERS} layers", item.span, "this run goes beyond", help="repeat less"
            )
            return []
    return layers


def _evaluated(
    node: tree.Node, wanted: Callable[[str], bool], environment: Environment, diagnostics: Diagnostics
) -> tree.Node:
    """A mapping with the values of the expressions under `wanted` keys; those under others may differ by layer."""
    if not isinstance(node, tree.Mapping):
        return node
    entries = (
        evolve(entry, value=resolve(entry.value, environment, diagnostics)) if wanted(entry.key) else entry
        for entry in node
    )
    return tree.Mapping(tuple(entries), node.span)


@frozen
class _Run:
    node: tree.Node
    path: str
    templates: tuple[str, ...] | None
    environment: Environment
    reader: Reader
    numbered: bool

    def layers(self, start: int) -> list[Layer] | None:
        """The layers of the run, one more than a model may have at most; None if their number is unknown."""
        values = self.reader.block(self.node, blocks.ENTRY, self.path, self.node.span)
        try:
            names = self.cut(values) if isinstance(self.node, tree.Mapping) else None
        except UnreadError:
            names = None
        parameters = self.mapping("with")
        override = self.mapping("override")
        if names is None:
            return None
        overrides = (override,) if override is not None else ()
        layers = [
            Layer(start + offset, name, self.node.span, parameters, overrides) for offset, name in enumerate(names)
        ]
        return self.single(layers, start)

    def mapping(self, key: str) -> tree.Mapping | None:
        node = self.node.get(key) if isinstance(self.node, tree.Mapping) else None
        if node is not None and not isinstance(node, tree.Mapping):
            self.reader.wrong_kind(node, f"{self.path}.{key}", "is not a mapping", "mapping")
            return None
        return node

    def names(self, values: Values) -> Iterator[str] | None:
        """The templates of one round of the run."""
        template, pattern = values.get("template"), values.get("pattern")
        if (template is None) == (pattern is None):
            self.reader.diagnostics.error(
                "E0503",
                "a run needs either template or pattern",
                values.span,
                "one of the two",
                help="write `template: NAME`",
            )
            return None
        if template is not None:
            self.check_known(template, values.where("template"))
            return iter((template,))
        items = [item if isinstance(item, dict) else {"template": item} for item in pattern]
        for index, item in enumerate(items):
            place = f"pattern[{index}]"
            self.check_known(item["template"], values.spans.get(f"{place}.template", values.where(place)))
        return chain.from_iterable(repeat(item["template"], item.get("repeat", 1)) for item in items)

    def check_known(self, name: str, span: Span) -> None:
        if self.templates is None or name in self.templates:
            return
        suggestion = closest(name, self.templates)
        self.reader.diagnostics.error(
            "E0504",
            f"no template is called {name!r}",
            span,
            "not among layer_templates",
            help=f"did you mean {suggestion}?" if suggestion else f"there are {', '.join(self.templates) or 'none'}",
        )

    def cut(self, values: Values) -> list[str] | None:
        """The run's templates: `repeat` rounds, or as many layers as `layers` says."""
        found = self.names(values)
        length = values.get("layers")
        if found is None:
            return None
        names = list(islice(found, MAX_LAYERS + 1))
        if length is None:
            return list(islice(cycle(names), min(len(names) * values.value("repeat"), MAX_LAYERS + 1)))
        if "repeat" in values:
            self.reader.diagnostics.error(
                "E0505",
                "repeat and layers together",
                values.where("layers"),
                "also sets the run's length",
                help="keep one of the two",
            )
        return list(islice(cycle(names), length))

    def single(self, layers: list[Layer], start: int) -> list[Layer]:
        """Adds the overrides of single layers."""
        node = self.node.get("override_at") if isinstance(self.node, tree.Mapping) else None
        for item in node.items if isinstance(node, tree.Sequence) and self.numbered else ():
            item = _evaluated(item, "layers".__eq__, self.environment, self.reader.diagnostics)
            chosen, override = self.chosen(item, start, start + len(layers))
            layers = [
                evolve(layer, overrides=(*layer.overrides, override)) if layer.index in chosen else layer
                for layer in layers
            ]
        return layers

    def chosen(self, item: tree.Node, start: int, end: int) -> tuple[set[int], tree.Mapping]:
        empty = tree.Mapping((), item.span)
        entry = item.entry("layers") if isinstance(item, tree.Mapping) else None
        if entry is None or not isinstance(item, tree.Mapping):
            self.reader.diagnostics.error(
                "E0506", "override_at without layers", item.span, "which layers?", help='write `layers: "0-2, 5"`'
            )
            return set(), empty
        indices = _indices(plain(entry.value))
        if indices is None or not indices or min(indices) < start or max(indices) >= end:
            self.reader.diagnostics.error(
                "E0506",
                f"layers {plain(entry.value)!r} are not layers of this run",
                entry.value.span,
                f"the run is {start}-{end - 1}",
                help=f'write indices and ranges, like "{start}-{end - 1}"',
            )
            return set(), empty
        return indices, tree.Mapping(tuple(other for other in item if other.key != "layers"), item.span)


def _indices(written: Any) -> set[int] | None:
    """The layers that `5`, `"0-2"` or `"0-2, 5"` name; None if it names none."""
    if isinstance(written, int) and not isinstance(written, bool):
        return {written}
    if not isinstance(written, str) or len(written) > 10000:
        return None
    indices: set[int] = set()
    for part in written.split(","):
        match = RANGE.fullmatch(part.strip())
        if match is None or len(part) > 20:
            return None
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        if last > MAX_LAYERS or first > last:
            return None
        indices.update(range(first, last + 1))
    return indices
