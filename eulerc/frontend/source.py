"""A source text whose character offsets become spans."""

from __future__ import annotations

from bisect import bisect_right

from attrs import field, frozen

from eulerc.diagnostics.text import LINE_BREAK
from eulerc.ir.span import Span


@frozen
class SourceText:
    """The text of one file under its display name."""

    name: str
    text: str
    _line_starts: list[int] = field(init=False, eq=False, repr=False)

    @_line_starts.default
    def _find_line_starts(self) -> list[int]:
        return [0, *(match.end() for match in LINE_BREAK.finditer(self.text))]

    def span(self, start: int, end: int | None = None) -> Span:
        """The span from offset `start` up to `end` (by default one character)."""
        line, column = self._place(start)
        end_line, end_column = self._place(start + 1 if end is None else max(start, end))
        return Span(self.name, line, column, end_line, end_column)

    def _place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1
