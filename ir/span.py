"""Where something stands in a source text."""

from attrs import frozen


@frozen
class Span:
    """A range of characters of one source; lines and columns count from 1, the end column is exclusive."""

    source: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"


NOWHERE = Span("<generated>", 1, 1, 1, 1)
