"""Reads a mapping of the spec tree against declared fields: unknown keys, wrong kinds, missing keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from eulerc.diagnostics.model import Diagnostics, Fix
from eulerc.diagnostics.suggest import closest, did_you_mean, foreign
from eulerc.frontend import tree
from eulerc.ir.context import Values
from eulerc.ir.fields import Anything, Block, Either, Field, Kind, ListOf
from eulerc.ir.span import Span

RESERVED = re.compile(r"^(experimental|future)\.|^vendor\.[^.]+\.")


@frozen
class Reader:
    """Reads blocks and collects findings and reserved keys."""

    diagnostics: Diagnostics
    extensions: dict[str, Any]

    def block(self, node: tree.Node | None, fields: Mapping[str, Field], path: str, span: Span) -> Values:
        """The values of the mapping at `path`; an absent one reads as empty."""
        if node is None:
            node = tree.Mapping((), span)
        if not isinstance(node, tree.Mapping):
            self.wrong_kind(node, path, "is not a mapping", "mapping")
            return Values({}, {}, node.span, fields)
        given: dict[str, Any] = {}
        spans: dict[str, Span] = {}
        for entry in self.known_entries(node, fields, path):
            self.entry(entry, fields[entry.key], f"{path}.{entry.key}", given, spans)
        spans = {**meant_keys(node, tuple(fields)), **spans}
        for name, field in fields.items():
            if field.required and name not in spans:
                self.missing(name, field, path, node.span)
        return Values(given, spans, node.span, fields)

    def entry(self, entry: tree.Entry, field: Field, path: str, given: dict[str, Any], spans: dict[str, Span]) -> None:
        value = self.value(entry.value, field.kind, path, spans, entry.key)
        if value is not _BAD:
            given[entry.key] = value
        spans[entry.key] = entry.value.span

    def known_entries(
        self, node: tree.Mapping, names: Iterable[str], path: str, below: tuple[str | None, Iterable[str]] = (None, ())
    ) -> Iterable[tree.Entry]:
        """The entries whose keys are known; the others are reported, or kept as extensions.

        `below` is a block of this mapping, and the keys that stand there.
        """
        known = tuple(names)
        for entry in node:
            if entry.key in known:
                yield entry
            elif RESERVED.match(entry.key):
                self.reserved(entry, path)
            else:
                self.unknown(entry, known, path, below)

    def reserved(self, entry: tree.Entry, path: str) -> None:
        self.extensions[f"{path}.{entry.key}".lstrip(".")] = plain(entry.value)
        self.diagnostics.warning(
            "W0202",
            f"{entry.key} is not read by the compiler",
            entry.key_span,
            "handed on to plugins",
            help="plugins find it in config.v1_extensions",
        )

    def unknown(
        self, entry: tree.Entry, known: tuple[str, ...], path: str, below: tuple[str | None, Iterable[str]] = (None, ())
    ) -> None:
        block, inner = below
        suggestion = None if entry.key in inner else meant(entry.key, known)
        takes = f"{path.lstrip('.') or 'a spec'} takes {', '.join(('include', 'let', *known) if not path else known)}"
        help = f"did you mean {suggestion}?" if suggestion else did_you_mean(entry.key, known) or takes
        help = f"`{entry.key}` stands under `{block}`" if entry.key in inner else help
        fix = Fix(entry.key_span, suggestion) if suggestion else None
        where = f" in {path.lstrip('.')}" if path else ""
        self.diagnostics.error(
            "E0202",
            f"unknown key {entry.key!r}{where}",
            entry.key_span,
            "not a key of the language here",
            help=help,
            fix=fix,
        )

    def missing(self, name: str, field: Field, path: str, span: Span) -> None:
        self.diagnostics.error(
            "E0201",
            f"{path.lstrip('.')} has no {name}",
            span,
            f"needs {name}",
            help=f"add `{name}:` ({field.kind.describe()})",
        )

    def value(self, node: tree.Node, kind: Kind, path: str, spans: dict[str, Span], key: str) -> Any:
        """The plain value of a node, or `_BAD` after a report; nested spans are kept under dotted keys."""
        if isinstance(kind, Either):
            return self.value(node, _choose(kind, node), path, spans, key)
        if isinstance(node, tree.Scalar) and node.value is None and kind.nullable:
            return None
        if isinstance(kind, Block) and isinstance(node, tree.Mapping):
            inner = self.block(node, kind.fields, path, node.span)
            spans.update({f"{key}.{name}": span for name, span in inner.spans.items()})
            return _BAD if any(map(inner.is_unread, kind.fields)) else dict(inner.given)
        if isinstance(kind, ListOf) and isinstance(node, tree.Sequence):
            return self.items(node, kind, path, spans, key)
        if isinstance(kind, Anything):
            return plain(node)
        return self.scalar(node, kind, path)

    def items(self, node: tree.Sequence, kind: ListOf, path: str, spans: dict[str, Span], key: str) -> Any:
        spans.update({f"{key}[{index}]": item.span for index, item in enumerate(node.items)})
        values = [
            self.value(item, kind.item, f"{path}[{index}]", spans, f"{key}[{index}]")
            for index, item in enumerate(node.items)
        ]
        complaint = kind.complaint(values)
        if complaint is not None:
            self.wrong_kind(node, path, complaint, kind.describe())
        return _BAD if complaint is not None or _BAD in values else values

    def scalar(self, node: tree.Node, kind: Kind, path: str) -> Any:
        value = plain(node)
        complaint = kind.complaint(value)
        if complaint is None:
            return value
        self.wrong_kind(node, path, complaint, kind.describe())
        return _BAD

    def wrong_kind(self, node: tree.Node, path: str, complaint: str, wanted: str) -> None:
        name = path.rsplit(".", 1)[-1]
        self.diagnostics.error(
            "E0203",
            f"{name} {shown(node)} {complaint}",
            node.span,
            f"{name} takes {wanted}",
            help=_help_for(node, wanted),
        )


class _Bad:
    """Stands for a value that was reported."""


_BAD = _Bad()


def _choose(kind: Either, node: tree.Node) -> Kind:
    """The alternative that a node is meant to be, by its shape."""
    for candidate in kind.kinds:
        if isinstance(node, tree.Mapping) == isinstance(candidate, Block) and isinstance(
            node, tree.Sequence
        ) == isinstance(candidate, ListOf):
            return candidate
    return kind.kinds[0]


def meant(key: str, known: tuple[str, ...]) -> str | None:
    """The known key that an unknown one probably means."""
    ours = foreign(key)
    return ours if ours in known else closest(key, known)


def meant_keys(node: tree.Mapping, known: tuple[str, ...]) -> dict[str, Span]:
    """The keys that a mapping's unknown ones probably mean: they were written, if not in these words."""
    unknown = (entry for entry in node if entry.key not in known and not RESERVED.match(entry.key))
    pairs = ((meant(entry.key, known), entry.key_span) for entry in unknown)
    return {name: span for name, span in pairs if name is not None}


def plain(node: tree.Node) -> Any:
    """The tree without places."""
    if isinstance(node, tree.Scalar):
        return node.value
    if isinstance(node, tree.Sequence):
        return [plain(item) for item in node.items]
    return {entry.key: plain(entry.value) for entry in node}


def shown(node: tree.Node) -> str:
    """A value as a message shows it."""
    if isinstance(node, tree.Mapping):
        return "{...}"
    if isinstance(node, tree.Sequence):
        return "[...]"
    text = (
        {None: "null", True: "true", False: "false"}.get(node.value)
        if node.value is None or isinstance(node.value, bool)
        else None
    )
    if text is None:
        text = repr(node.value) if isinstance(node.value, str) else f"{node.value}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _help_for(node: tree.Node, wanted: str) -> str | None:
    value = plain(node)
    if (
        isinstance(value, str)
        and re.fullmatch(r"[-+]?\d+(\.\d+)?", value)
        and ("integer" in wanted or "number" in wanted)
    ):
        return f"write {value} without quotes"
    if isinstance(value, str) and value.lower() in ("yes", "on", "no", "off") and "true" in wanted:
        return f"write {'true' if value.lower() in ('yes', 'on') else 'false'}"
    if isinstance(value, str) and "`" in wanted:
        words = re.findall(r"`([^`]+)`", wanted)
        suggestion = closest(value, words)
        return f"did you mean {suggestion}?" if suggestion else None
    if isinstance(value, float) and "integer" in wanted:
        return f"write {round(value)}" if abs(value) < 1e15 else None
    return None
