"""Where a character of a scalar's value stands in the file."""

from __future__ import annotations

from eulerc.diagnostics.text import LINE_BREAK
from eulerc.frontend.tree import Scalar
from eulerc.ir.span import Span


def locate(scalar: Scalar, start: int, end: int) -> Span:
    """The span of characters `start` to `end` of the string `scalar.value`, at least one character.

    Quotes, folded lines and block scalars are seen through; where escapes or an alias stand between text and value,
    it is the span of the whole scalar.
    """
    offsets = _offsets(str(scalar.value), scalar.written)
    if offsets is None:
        return scalar.span
    first = offsets[min(start, len(offsets) - 1)]
    last = offsets[min(max(end, start + 1), len(offsets)) - 1] + 1
    line, column = _place(scalar, first)
    end_line, end_column = _place(scalar, max(last, first + 1))
    return Span(scalar.span.source, line, column, end_line, end_column)


def _offsets(value: str, written: str) -> list[int] | None:
    """For each character of the value its offset in the text; blanks may differ, all else must agree."""
    offsets = []
    position = _body_start(written)
    for character in value:
        if character.isspace():
            offsets.append(min(position, len(written) - 1))
            continue
        while position < len(written) and written[position].isspace():
            position += 1
        if written[position : position + 1] != character:
            return None
        offsets.append(position)
        position += 1
    return offsets or None


def _body_start(written: str) -> int:
    if written[:1] in ("|", ">"):
        header = LINE_BREAK.search(written)
        return header.end() if header else len(written)
    return 1 if written[:1] in ("'", '"') else 0


def _place(scalar: Scalar, offset: int) -> tuple[int, int]:
    breaks = [match.end() for match in LINE_BREAK.finditer(scalar.written, 0, offset)]
    if not breaks:
        return scalar.span.line, scalar.span.column + offset
    return scalar.span.line + len(breaks), offset - breaks[-1] + 1
