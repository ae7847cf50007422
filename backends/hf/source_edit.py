"""A Python source as text and syntax tree side by side, and edits of the text at places that the tree gives.

The sources are formatted by `ruff format`: one statement a line, every suite on lines of its own, no tabs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

from attrs import Factory, frozen

from eulerc.backends.hf.names import lines_inside_strings

LINE_LENGTH = 120
# No Python source can hold a NUL, so a line that holds one is a line of ours.
_REMOVED = "\0\n"
_COMMENT = re.compile(r"#[^\n]*")
_HEADER_END = re.compile(r"(?:[\s)\\]|#[^\n]*\n)*:")
_CLAUSES = ("else:", "elif ", "except", "finally:", ")", "]", "}")


class SpecialiseError(Exception):
    """A component breaks the rules that let it be specialised, at `line` of the source `component`."""

    def __init__(self, component: str, line: int, message: str) -> None:
        super().__init__(f"{component}:{line}: {message}")
        self.component = component
        self.line = line


@frozen
class Extent:
    """A range of characters, the end exclusive."""

    start: int
    end: int


@frozen(eq=False)
class Source:
    """A source with its tree. Lines count from 1; a place in `text` is an offset in characters."""

    name: str
    text: str
    tree: ast.Module
    lines: tuple[str, ...]
    starts: tuple[int, ...]

    def error(self, node: ast.AST, message: str) -> SpecialiseError:
        return SpecialiseError(self.name, getattr(node, "lineno", 1), message)

    def offset(self, line: int, column: int) -> int:
        """The offset of a place as the tree has it, whose columns count UTF-8 bytes."""
        text = self.lines[line - 1]
        if not text.isascii():
            column = len(text.encode()[:column].decode())
        return self.starts[line - 1] + column

    def extent(self, node: ast.expr | ast.stmt | ast.arg | ast.keyword) -> Extent:
        end_line, end_column = node.end_lineno, node.end_col_offset
        assert end_line is not None
        assert end_column is not None
        return Extent(self.offset(node.lineno, node.col_offset), self.offset(end_line, end_column))

    def segment(self, extent: Extent) -> str:
        return self.text[extent.start : extent.end]

    def line_text(self, line: int) -> str:
        return self.lines[line - 1]

    def indent(self, line: int) -> int:
        return indentation(self.lines[line - 1])

    def line_of(self, offset: int) -> int:
        return self.text.count("\n", 0, offset) + 1

    def is_comment(self, line: int) -> bool:
        return line <= len(self.lines) and self.lines[line - 1].lstrip().startswith("#")

    def is_blank(self, line: int) -> bool:
        return line <= len(self.lines) and not self.lines[line - 1].strip()

    def first_line(self, statement: ast.stmt) -> int:
        """The line on which a statement begins, its decorators and the comments right above it included."""
        decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
        line = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
        while line > 1 and self.is_comment(line - 1) and self.indent(line - 1) == statement.col_offset:
            line -= 1
        return line

    def suite_end(self, body: Sequence[ast.stmt]) -> int:
        """The last line of a suite, with the comments that end it."""
        last = line = end_line(body[-1])
        while self.is_blank(line + 1) or (self.is_comment(line + 1) and self.indent(line + 1) >= body[0].col_offset):
            line += 1
            if self.is_comment(line):
                last = line
        return last

    def header_end(self, last: ast.expr) -> int:
        """The line of the colon that ends a header whose last expression is `last`."""
        match = _HEADER_END.match(self.text, self.extent(last).end)
        assert match is not None
        return self.line_of(match.end() - 1)

    def operands(self, nodes: Sequence[ast.expr], whole: Extent, keywords: Sequence[str]) -> tuple[Extent, ...]:
        """The extents of the operands of one expression, each with its own parentheses.

        `keywords` stand between them, one between each two.
        """
        starts, ends = [whole.start], []
        for left, right, keyword in zip(nodes, nodes[1:], keywords, strict=False):
            gap = Extent(self.extent(left).end, self.extent(right).start)
            masked = _COMMENT.sub(lambda match: " " * len(match.group()), self.segment(gap))
            middle = masked.index(keyword)
            opening = masked.find("(", middle)
            ends.append(gap.start + masked.rfind(")", 0, middle) + 1)
            starts.append(gap.end if opening < 0 else gap.start + opening)
        return tuple(Extent(start, end) for start, end in zip(starts, [*ends, whole.end], strict=True))

    def parentheses(self, inner: Extent) -> Extent | None:
        """The parentheses that hold exactly `inner` to group it; None when there are none or they are a call's."""
        start, end = inner.start - 1, inner.end
        while start >= 0 and self.text[start].isspace():
            start -= 1
        while end < len(self.text) and self.text[end].isspace():
            end += 1
        if start < 1 or self.text[start] != "(" or self.text[end : end + 1] != ")":
            return None
        before = self.text[start - 1]
        return None if before.isalnum() or before in "_)]\"'" else Extent(start, end + 1)


def read_source(text: str, name: str) -> Source:
    """Parses a source; `name` stands in messages. Raises SyntaxError."""
    lines = tuple(line + "\n" for line in text.removesuffix("\n").split("\n"))
    starts = tuple(accumulate((len(line) for line in lines), initial=0))
    return Source(name, text, ast.parse(text, name), lines, starts)


parse = lru_cache(maxsize=256)(read_source)
"""`read_source`, once per text."""


def indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def end_line(node: ast.stmt | ast.expr) -> int:
    assert node.end_lineno is not None
    return node.end_lineno


def suites(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The suites of a compound statement, in the order of the text."""
    for holder in (node, *getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        for name in ("body", "orelse", "finalbody"):
            suite = getattr(holder, name, None)
            if suite:
                yield suite


@frozen
class Edits:
    """Edits of one source, all given in places of the original.

    One within removed text has no effect; of two that overlap otherwise, both remove text.
    """

    source: Source
    replacements: list[tuple[int, int, str]] = Factory(list)
    dedents: dict[int, int] = Factory(dict)
    removed: set[int] = Factory(set)

    def replace(self, extent: Extent, text: str) -> None:
        self.replacements.append((extent.start, extent.end, text))

    def keep_only(self, kept: Extent, whole: Extent) -> None:
        """Removes what `whole` holds around `kept`."""
        self.replace(Extent(whole.start, kept.start), "")
        self.replace(Extent(kept.end, whole.end), "")

    def remove_lines(self, first: int, last: int) -> None:
        self.removed.update(range(first, last + 1))

    def replace_lines(self, first: int, last: int, text: str) -> None:
        """Puts one line of `text`, at the indentation of the first line, in the place of whole lines."""
        self.remove_lines(first, last)
        self.removed.discard(first)
        start = self.source.starts[first - 1] + self.source.indent(first)
        self.replace(Extent(start, self.source.starts[first] - 1), text)

    def dedent(self, first: int, last: int, columns: int) -> None:
        """Moves lines to the left, except those that begin within a string, whose value would change."""
        text = "".join(self.source.lines[first - 1 : last])
        inside = {first + line for line in lines_inside_strings(text)}
        for line in range(first, last + 1):
            if line not in inside:
                self.dedents[line] = self.dedents.get(line, 0) + columns

    def column(self, offset: int) -> int:
        """The column at which the character at `offset` will stand after the dedents known so far."""
        line = self.source.line_of(offset)
        return offset - self.source.starts[line - 1] - self.dedents.get(line, 0)

    def render(self, first: int, last: int) -> str:
        """The edited text of some lines; blank lines around what was removed are those of one gap."""
        position, stop = self.source.starts[first - 1], self.source.starts[last]
        pieces: list[str] = []
        for start, end, text in sorted(self._all(), key=lambda edit: (edit[0], -edit[1])):
            if position <= start < stop:
                pieces += (self.source.text[position:start], text)
                position = end
            elif start < position:
                position = max(position, end)
        pieces.append(self.source.text[position:stop])
        return "".join(_close_gaps("".join(pieces).splitlines(keepends=True)))

    def _all(self) -> Iterator[tuple[int, int, str]]:
        yield from self.replacements
        for line in self.removed:
            yield self.source.starts[line - 1], self.source.starts[line], _REMOVED
        for line, columns in self.dedents.items():
            start = self.source.starts[line - 1]
            yield start, start + min(columns, self.source.indent(line)), ""


def _close_gaps(lines: Sequence[str]) -> Iterator[str]:
    """Leaves out the marks of removed lines, and makes one gap of the gaps around them."""
    previous: str | None = None
    gap: list[str] = []
    for line in lines:
        if line == _REMOVED or not line.strip():
            gap.append(line)
            continue
        yield from "\n" * _gap_height(previous, gap, line) if _REMOVED in gap else gap
        yield line
        previous, gap = line, []
    if _REMOVED not in gap:
        yield from gap


def _gap_height(previous: str | None, gap: Sequence[str], line: str) -> int:
    if previous is None or indentation(line) > indentation(previous) or line.lstrip().startswith(_CLAUSES):
        return 0
    return max(len(run.splitlines()) for run in "".join(gap).split(_REMOVED))
