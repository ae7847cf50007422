"""Text as a terminal shows it: lines, columns, and nothing that could steer the terminal."""

from __future__ import annotations

import re
import unicodedata

LINE_BREAK = re.compile(r"\r\n|\r|\n")
"""The line breaks of YAML 1.2; editors count the same ones."""

TAB = "    "
_PLAIN = re.compile(r"[\x20-\x7e]*")
# Direction overrides reorder what a reader sees, line separators break the excerpt, lone surrogates cannot be encoded.
_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def split_lines(text: str) -> list[str]:
    """The lines of a source text without their ends; a byte order mark is not part of the first."""
    return LINE_BREAK.split(text.removeprefix("\ufeff"))


def visible(text: str) -> str:
    """One line of `text` for a terminal: tabs as four spaces, control and direction characters as U+FFFD."""
    if _PLAIN.fullmatch(text):
        return text
    return _HOSTILE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\t", TAB))


def columns(text: str) -> int:
    """How many terminal columns `visible(text)` takes: wide characters take two, combining ones none."""
    if _PLAIN.fullmatch(text):
        return len(text)
    return sum(_character_columns(character) for character in visible(text))


def _character_columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shorten(text: str, limit: int = 60) -> str:
    """`text` on one line and no longer than `limit`, for use within a message."""
    line = " ".join(text[: 4 * limit].split())
    is_cut = len(line) > limit or len(text) > 4 * limit
    return line[: limit - 3] + "..." if is_cut else line
