"""Diagnostics as text with carets.

Labels in one file share one excerpt, in the order of the lines: `^` under the primary place, `-` under the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import field, frozen

from eulerc.diagnostics.model import Diagnostic, Label, Severity
from eulerc.diagnostics.text import columns, split_lines, visible
from eulerc.ir.span import NOWHERE

_COLORS = {"error": "1;31", "warning": "1;33", "note": "1;36", "gutter": "1;34", "bold": "1"}
_ELLIPSIS = "..."


@frozen
class _Mark:
    """One label on the line where its span begins; `start` and `end` are character indices into that line."""

    line: int
    start: int
    end: int
    text: str
    is_primary: bool


@frozen
class Renderer:
    """Renders diagnostics against their sources (display name -> text); lines longer than `width` are cut."""

    sources: Mapping[str, str]
    color: bool = False
    width: int = 100
    _lines: dict[str, list[str]] = field(init=False, factory=dict, eq=False, repr=False)

    def render(self, diagnostic: Diagnostic) -> str:
        """The text of one diagnostic, without a newline at its end."""
        labels = [label for label in (diagnostic.primary, *diagnostic.labels) if label.span != NOWHERE]
        gutter = max((len(str(label.span.line)) for label in labels if label.span.source in self.sources), default=1)
        rows = [self._title(diagnostic)]
        for source in dict.fromkeys(label.span.source for label in labels):
            rows += self._block(source, labels, diagnostic, gutter)
        pad = " " * (gutter + 1)
        for kind, text in _remarks(diagnostic):
            rows += self._remark(kind, text, pad)
        return "\n".join(row.rstrip() for row in rows)

    def _title(self, diagnostic: Diagnostic) -> str:
        title = self._paint(f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity)
        return title + self._paint(f": {visible(diagnostic.message)}", "bold")

    def _remark(self, kind: str, text: str, pad: str) -> list[str]:
        first, *others = text.split("\n")
        begin = f"{pad}= {kind}: "
        head = pad + self._paint("= ", "gutter") + self._paint(f"{kind}:", "bold")
        return [f"{head} {visible(first)}", *(" " * len(begin) + visible(other) for other in others)]

    def _block(self, source: str, labels: list[Label], diagnostic: Diagnostic, gutter: int) -> list[str]:
        mine = [label for label in labels if label.span.source == source]
        arrow = self._paint("-->" if source == diagnostic.primary.span.source else ":::", "gutter")
        place = f"{' ' * gutter}{arrow} {visible(str(mine[0].span))}"
        if source not in self.sources:
            return [place, *(f"{self._gutter('', gutter)}{visible(label.text)}" for label in mine if label.text)]
        marks = [self._mark(label, label is diagnostic.primary) for label in mine]
        return [place, self._gutter("", gutter), *self._excerpt(source, marks, diagnostic.severity, gutter)]

    def _mark(self, label: Label, is_primary: bool) -> _Mark:
        span, line = label.span, self._line(label.span.source, label.span.line)
        start = min(span.column - 1, len(line))
        end = span.end_column - 1 if span.end_line == span.line else len(line)
        return _Mark(span.line, start, min(max(end, start), len(line)), label.text, is_primary)

    def _line(self, source: str, number: int) -> str:
        if source not in self._lines:
            self._lines[source] = split_lines(self.sources[source])
        lines = self._lines[source]
        return lines[number - 1] if number <= len(lines) else ""

    def _excerpt(self, source: str, marks: list[_Mark], severity: Severity, gutter: int) -> list[str]:
        rows = []
        for number in sorted({mark.line for mark in marks}):
            line = self._line(source, number)
            on_line = sorted((mark for mark in marks if mark.line == number), key=lambda mark: mark.start)
            for group in self._groups(line, on_line):
                text, *markers = self._shown(line, group, severity)
                rows.append(self._gutter(str(number), gutter) + text)
                rows += [self._gutter("", gutter) + marker for marker in markers]
        return rows

    def _shown(self, line: str, marks: list[_Mark], severity: Severity) -> list[str]:
        """The part of `line` that holds `marks`, followed by one row for each mark."""
        begin, end = self._window(line, marks)
        prefix, suffix = _ELLIPSIS if begin else "", _ELLIPSIS if end < len(line) else ""
        rows = [prefix + visible(line[begin:end]) + suffix]
        for mark in marks:
            indent = len(prefix) + columns(line[begin : mark.start])
            rows.append(" " * indent + self._marker(mark, columns(line[mark.start : min(mark.end, end)]), severity))
        return rows

    def _groups(self, line: str, marks: list[_Mark]) -> list[list[_Mark]]:
        """The marks shown under one copy of the line: all of them, or each its own when they lie too far apart."""
        end = self._window(line, marks)[1]
        return [marks] if marks[-1].start <= end else [[mark] for mark in marks]

    def _window(self, line: str, marks: list[_Mark]) -> tuple[int, int]:
        """The part of a long line that is shown, with a third of the room before the first mark."""
        begin = max(0, min(marks[0].start - self.width // 3, len(line) - self.width))
        return begin, min(len(line), begin + self.width)

    def _marker(self, mark: _Mark, width: int, severity: Severity) -> str:
        marker = ("^" if mark.is_primary else "-") * max(1, width)
        return self._paint(f"{marker} {visible(mark.text)}".rstrip(), severity if mark.is_primary else "gutter")

    def _gutter(self, number: str, width: int) -> str:
        return self._paint(f"{number:>{width}} |", "gutter") + " "

    def _paint(self, text: str, role: str) -> str:
        return f"\x1b[{_COLORS[role]}m{text}\x1b[0m" if self.color else text


def _remarks(diagnostic: Diagnostic) -> Iterable[tuple[str, str]]:
    for note in diagnostic.notes:
        yield "note", note
    if diagnostic.help is not None:
        yield "help", diagnostic.help
    elif diagnostic.fix is not None:
        yield "help", f"write `{diagnostic.fix.replacement}`"


def render(
    diagnostics: Iterable[Diagnostic], sources: Mapping[str, str], *, color: bool = False, width: int = 100
) -> str:
    """All diagnostics as text, an empty line between two; ends in a newline unless there is nothing to say."""
    renderer = Renderer(sources, color, width)
    return "\n".join(renderer.render(diagnostic) + "\n" for diagnostic in diagnostics)


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """How many of each severity: `2 errors, 1 warning`; empty when there is none."""
    severities = [diagnostic.severity for diagnostic in diagnostics]
    counts = {severity: severities.count(severity) for severity in ("error", "warning", "note")}
    return ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count)
