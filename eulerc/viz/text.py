"""Text in pictures: how wide it is, how it is cut and wrapped, and how it is made harmless."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from eulerc.diagnostics.text import columns, visible

_WIDTHS = {
    191: "'",
    222: "ijl",
    260: "|",
    278: " !,./:;I[\\]ft",
    333: "()-`r",
    334: "{}",
    355: '"',
    389: "*",
    469: "^",
    500: "Jcksvxyz",
    556: "#$0123456789?L_abdeghnopqu",
    584: "+<=>~",
    611: "FTZ",
    667: "&ABEKPSVXY",
    722: "CDHNRUw",
    778: "GOQ",
    833: "Mm",
    889: "%",
    944: "W",
    1015: "@",
}
_WIDTH_OF = {character: width for width, characters in _WIDTHS.items() for character in characters}
_OTHER = 700
_MARGIN = 1.18
"""Helvetica's widths, in thousandths of the size, leave this room for the wider fonts that may stand in for it."""

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Pixels that `text` takes at most, in a sans-serif font of `size` pixels."""
    units = sum(_WIDTH_OF.get(character) or _other_width(character) for character in text)
    return units * size / 1000 * _MARGIN * (1.1 if bold else 1.0)


def _other_width(character: str) -> int:
    return 1000 if columns(character) > 1 else _OTHER


def cut(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """`text`, shortened until it fits into `room` pixels."""
    if text_width(text, size, bold=bold) <= room:
        return text
    kept = text
    while kept and text_width(kept + ELLIPSIS, size, bold=bold) > room:
        kept = kept[:-1]
    return kept.rstrip() + ELLIPSIS


def wrapped(phrases: Iterable[str], size: float, room: float, separator: str = " \N{MIDDLE DOT} ") -> Iterator[str]:
    """Phrases joined into lines of at most `room` pixels; a phrase too long for a line is cut."""
    line = ""
    for phrase in phrases:
        longer = f"{line}{separator}{phrase}" if line else phrase
        if line and text_width(longer, size) > room:
            yield line
            longer = phrase
        line = cut(longer, size, room)
    if line:
        yield line


def one_line(text: str, limit: int = 300) -> str:
    """Any text as one line that steers neither a terminal nor an XML parser."""
    line = visible(" ".join(text[: 4 * limit].split()))
    return "".join(character for character in line if _is_xml(character))[:limit]


def _is_xml(character: str) -> bool:
    """Whether XML 1.0 admits the character."""
    return character not in "\ufffe\uffff" and (ord(character) & 0xFFFE) != 0xFFFE


def as_xml(text: str) -> str:
    """Text between tags or in an attribute."""
    return escape(one_line(text, 4000), quote=True)
