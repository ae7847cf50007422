"""The whole printer runtime: lines and indentation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import dedent


class Emitter:
    """Collects lines at the current indentation."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def line(self, text: str = "") -> None:
        self._lines.append("    " * self._depth + text if text else "")

    def block(self, text: str) -> None:
        """Several lines, dedented, at the current indentation."""
        for text_line in dedent(text).strip("\n").split("\n"):
            self.line(text_line)

    @contextmanager
    def indent(self, header: str = "") -> Iterator[None]:
        if header:
            self.line(header)
        self._depth += 1
        yield
        self._depth -= 1

    def call(self, head: str, arguments: list[str], tail: str = "") -> None:
        """A call on one line if it fits, else one argument a line."""
        flat = f"{head}({', '.join(arguments)}){tail}"
        if len(flat) + 4 * self._depth <= 119:
            self.line(flat)
            return
        with self.indent(f"{head}("):
            for argument in arguments:
                self.line(f"{argument},")
        self.line(f"){tail}")

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"
