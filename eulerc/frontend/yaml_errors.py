"""What the YAML parser says, in the words of somebody who writes specs."""

from __future__ import annotations

import re
from typing import Any

from attrs import frozen

from eulerc.diagnostics.model import Diagnostics, Label
from eulerc.diagnostics.text import shorten
from eulerc.frontend.source import SourceText


@frozen
class _Reading:
    """How one complaint of the parser is told.

    `at_context` puts the caret where the construct began instead of where the parser gave up; `other` labels the
    other place. `{found}` is the text at the caret.
    """

    problem: str
    message: str
    label: str
    help: str | None = None
    other: str = ""
    at_context: bool = False
    code: str = "E0106"


_UNQUOTED = _Reading(
    "",
    "an expression within {...} or [...] needs quotes",
    "YAML takes this brace for one of its own",
    'write "${...}"',
)

# Both spellings are listed where libyaml and the parser in pure Python differ. The first that occurs wins.
_READINGS = (
    _Reading(
        "mapping values are not allowed",
        "`:` cannot stand here",
        "a value is already being read",
        "put the value in quotes if `:` belongs to it; else start a line, indented like the keys beside it",
    ),
    _Reading(
        "could not find expected ':'",
        "`{found}` is neither a key nor a list item",
        "no `:` follows",
        "write `key: value` or `- item`",
        at_context=True,
    ),
    _Reading(
        "expected key|expected <block end>",
        "this does not fit into the block it stands in",
        "neither a key nor an item of it",
        "indent it like the lines beside it",
        other="the block begins here",
    ),
    _Reading(
        "'-' indicator",
        "this does not fit into the list it stands in",
        "`- item` belongs here",
        "indent it like the keys beside it, or begin it with `- `",
        other="the list begins here",
    ),
    _Reading("',' or '}'", "`{` is not closed", "`,` or `}` belongs before this", other="opened here"),
    _Reading("',' or '\\]'", "`[` is not closed", "`,` or `]` belongs before this", other="opened here"),
    _Reading("unexpected end of stream", "the quote is never closed", "opened here", at_context=True),
    _Reading(
        "unexpected document indicator",
        "the quote is not closed before the document ends",
        "the document ends here",
        other="opened here",
    ),
    _Reading(
        "unknown escape",
        "`\\` begins no escape that YAML knows",
        "not an escape",
        "use single quotes, in which `\\` is an ordinary character",
    ),
    _Reading(
        "escape (?:character|sequence|code)|chr\\(\\)|hexadecimal|hexdecimal",
        "an escape in a quoted string is not a character",
        "write the character itself",
    ),
    _Reading(
        "cannot start any token",
        "a value cannot begin with this character",
        "needs quotes",
        'write "..." around the value',
    ),
    _Reading(
        "alphabetic or numeric|alphanumeric",
        "a name must follow `*` or `&`",
        "no name here",
        'if `*` or `&` belongs to the value, write "..." around it',
    ),
    _Reading(
        "tag", "this is not a tag of the language", "tags are not used", "write the value without a tag", code="E0110"
    ),
    _Reading(
        "incompatible (?:YAML )?document|YAML directive",
        "the %YAML line is not understood",
        "specs are read as YAML 1.2",
        "delete the line, or write %YAML 1.2",
        code="E0119",
    ),
    _Reading(
        "block sequence entries are not allowed|sequence entries are not allowed",
        "`- ` cannot stand here",
        "a list begins on a line of its own",
    ),
    _Reading("document start", "text after the end of the document", "belongs to nothing", "delete it, or indent it"),
    _Reading("node content", "a value is missing", "expected here"),
)


def report_syntax_error(error: Exception, source: SourceText, reached: int, diagnostics: Diagnostics) -> None:
    """Report what the parser raised; `reached` is the offset up to which it had delivered values."""
    problem = str(getattr(error, "problem", None) or error)
    place = _offset(getattr(error, "problem_mark", None), source, reached)
    context = _offset(getattr(error, "context_mark", None), source, place)
    tab = _indenting_tab(source, place)
    if tab is not None:
        _report_tab(tab, source, diagnostics)
        return
    is_expression = source.text[max(place - 1, 0) : place + 1] == "${"
    reading = _UNQUOTED if is_expression else _reading(problem)
    _report(reading, place, context, source, diagnostics)


def _reading(problem: str) -> _Reading:
    for reading in _READINGS:
        if re.search(reading.problem, problem):
            return reading
    return _Reading("", f"not YAML: {shorten(problem)}", "cannot be read from here on")


def _report(reading: _Reading, place: int, context: int, source: SourceText, diagnostics: Diagnostics) -> None:
    main, second = (context, place) if reading.at_context else (place, context)
    message = reading.message.replace("{found}", _word(source.text, main))
    end = main + 1 if main < len(source.text.rstrip()) else main
    labels = (Label(source.span(second), reading.other),) if reading.other and second != main else ()
    diagnostics.error(reading.code, message, source.span(main, end), reading.label, labels=labels, help=reading.help)


def _offset(mark: Any, source: SourceText, default: int) -> int:
    """Where a mark stands; the end of a file is the end of its last word."""
    offset = default if mark is None else int(mark.index)
    return min(offset, len(source.text.rstrip()))


def _word(text: str, offset: int) -> str:
    word = re.compile(r"[^\s:,\[\]{}]+|\S").match(text, offset)
    return shorten(word[0], 24) if word else "this"


def _indenting_tab(source: SourceText, place: int) -> int | None:
    """The first tab in the indentation of the line at `place`."""
    begin = max(source.text.rfind("\n", 0, place), source.text.rfind("\r", 0, place)) + 1
    indentation = re.compile(r"[ \t]*").match(source.text, begin)
    tab = indentation[0].find("\t") if indentation else -1
    return None if tab < 0 else begin + tab


def _report_tab(tab: int, source: SourceText, diagnostics: Diagnostics) -> None:
    diagnostics.error(
        "E0107",
        "a tab is used as indentation",
        source.span(tab),
        "YAML indents with spaces only",
        help="replace the tab by spaces, as many as the lines beside it have",
    )
