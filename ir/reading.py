"""From the characters of a textual IR to its syntax tree, with every syntax error of the text in one run."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from attrs import frozen

from eulerc import grammar
from eulerc.diagnostics.model import Diagnostics
from eulerc.ir.span import Span
from eulerc.ir.syntax import Builder, OperationNode
from eulerc.ir.text import MAX_SYNTAX_ERRORS, shortened

if TYPE_CHECKING:
    from lark import Lark, Token

_IN_WORDS = {
    "NAME": "a name",
    "EXTENT": "a name",
    "VALUE": "a value such as `%x`",
    "SYMBOL": "a symbol such as `@name`",
    "STRING": "a string",
    "INT": "a number",
    "FLOAT": "a number",
    "CARRIES": "`carries`",
    "LOC": "`loc`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LEFT_BRACKET": "`[`",
    "RIGHT_BRACKET": "`]`",
    "LEFT_BRACE": "`{`",
    "RIGHT_BRACE": "`}`",
    "EQUAL": "`=`",
    "COLON": "`:`",
    "COMMA": "`,`",
    "STAR": "`*`",
    "_DOTS": "`..`",
    "_NEWLINE": "the end of the line",
    "$END": "the end of the text",
}
"""Terminals of the grammar as a reader would say them, in the order in which they are listed."""


@cache
def _lark() -> Lark:
    # Imported here since lark takes longer to import than all of the IR, and only texts need it.
    from lark import Lark

    source = Path(grammar.__file__).with_name("ir.lark").read_text(encoding="utf-8")
    return Lark(source, parser="lalr", transformer=Builder())


@frozen
class _Fault:
    """A token, or a character that begins none (`kind` is then empty), where the grammar wants something else."""

    kind: str
    written: str
    line: int
    column: int
    previous: Token | None
    expected: frozenset[str]

    @property
    def ends_early(self) -> bool:
        """Whether the fault is what lacks after the token before."""
        if self.previous is None or self.previous.type == "_NEWLINE":
            return False
        return self.kind == "$END" or self.line > (self.previous.end_line or 0)


def read_tree(text: str, source: str, diagnostics: Diagnostics) -> OperationNode | None:
    """The outermost op of a text; None after reporting its syntax errors.

    A line with an error is blanked, but for the brace that it opens or closes, and the text is read again.
    """
    lines = text.split("\n")
    last_line = 0
    for _ in range(MAX_SYNTAX_ERRORS):
        outcome = _attempt("\n".join(lines))
        if isinstance(outcome, OperationNode):
            return outcome if last_line == 0 else None
        span = _place(outcome, lines, source)
        # Blanking may have taken a brace away, so what lacks at the end says nothing more about the text.
        if span.line <= last_line or (last_line > 0 and outcome.kind == "$END"):
            return None
        diagnostics.error("E0704", _message(outcome), span, _label(outcome))
        last_line = span.line
        lines[last_line - 1] = _braces_of(lines[last_line - 1])
    return None


def _attempt(text: str) -> OperationNode | _Fault:
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    try:
        return cast(OperationNode, _lark().parse(text))
    except UnexpectedToken as error:
        token = cast("Token", error.token)
        place = (token.line or 1, token.column or 1)
        return _Fault(token.type, token, *place, _last(error.token_history), frozenset(error.accepts or error.expected))
    except UnexpectedCharacters as error:
        place = (error.line, error.column)
        return _Fault("", error.char, *place, _last(error.token_history), frozenset(error.allowed or ()))


def _last(history: list[Token | None] | None) -> Token | None:
    return history[-1] if history else None


def _braces_of(line: str) -> str:
    """What must stay of a line so that the braces around it still match."""
    line = line.split("#")[0].strip()
    if line.startswith("}"):
        return "}"
    return "op {" if line.endswith("{") else ""


def _place(fault: _Fault, lines: list[str], source: str) -> Span:
    """Where to put the caret: at the bad token, or after the one before if the line ended too early."""
    if fault.previous is not None and fault.ends_early:
        line, column = fault.previous.end_line or 1, fault.previous.end_column or 1
    elif fault.kind == "$END":
        line, column = len(lines), len(lines[-1]) + 1
    else:
        line, column = fault.line, fault.column
    width = 1 if fault.ends_early else max(1, len(fault.written.split("\n")[0]))
    return Span(source, line, column, line, column + width)


def _message(fault: _Fault) -> str:
    if fault.kind == "":
        return "unclosed string" if fault.written == '"' else f"unexpected character {fault.written!a}"
    if fault.kind == "$END":
        return "the text ends too early"
    if fault.ends_early:
        return "the line ends too early"
    return f"unexpected `{shortened(fault.written)}`"


def _label(fault: _Fault) -> str:
    if fault.kind == "" and fault.written == '"':
        return "no closing quote on this line, or a tab or control character before it"
    words = list(dict.fromkeys(word for name, word in _IN_WORDS.items() if name in fault.expected))
    return "expected " + " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
