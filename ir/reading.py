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

_BEFORE_FREE_BREAKS = frozenset({"_NEWLINE", "LEFT_BRACE", "LEFT_BRACKET", "LPAR", "COMMA", "EQUAL"})
"""Tokens at the end of a line that say it goes on, or that it has ended as it should."""


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
        """Whether the fault is what lacks after the token before, at the end of a line that should go on."""
        if self.previous is None or self.kind == "$END":
            return False
        return self.line > (self.previous.end_line or 0) and self.previous.type not in _BEFORE_FREE_BREAKS

    def follows_from(self, blanked_line: int) -> bool:
        """Whether it may be but the blanking of an earlier line that makes this a fault."""
        if self.kind == "$END" or self.previous is None:
            return True
        return self.previous.type != "_NEWLINE" and (self.previous.end_line or 0) < blanked_line


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
        if span.line <= last_line or (last_line > 0 and outcome.follows_from(last_line)):
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
        expected = frozenset(error.accepts or error.expected)
        position = len(text) if token.type == "$END" else token.start_pos or 0
        return _Fault(token.type, token, token.line or 1, token.column or 1, _previous(text, position), expected)
    except UnexpectedCharacters as error:
        previous = _previous(text, error.pos_in_stream or 0)
        return _Fault("", error.char, error.line, error.column, previous, frozenset(error.allowed or ()))


def _previous(text: str, position: int) -> Token | None:
    """The last token that starts before `position`, of a text that is right up to there."""
    from lark.exceptions import UnexpectedInput

    previous = None
    try:
        for token in _lark().parse_interactive(text).iter_parse():
            if (token.start_pos or 0) >= position:
                break
            previous = token
    except UnexpectedInput:
        return previous
    return previous


def _braces_of(line: str) -> str:
    """What must stay of a line so that the braces around it still match."""
    line = line.split("#")[0].strip()
    if line.startswith("}"):
        return "}"
    return "op {" if line.endswith("{") else ""


def _place(fault: _Fault, lines: list[str], source: str) -> Span:
    """Where to put the caret: at the bad token, or after the last one before if something lacks there."""
    if fault.kind != "$END" and not fault.ends_early:
        width = max(1, len(fault.written.split("\n")[0]))
        return Span(source, fault.line, fault.column, fault.line, fault.column + width)
    if fault.previous is None:
        line, column = len(lines), len(lines[-1]) + 1
    elif fault.previous.type == "_NEWLINE":
        line, column = fault.previous.line or 1, fault.previous.column or 1
    else:
        line, column = fault.previous.end_line or 1, fault.previous.end_column or 1
    return Span(source, line, column, line, column + 1)


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
