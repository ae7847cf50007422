"""The whole picture as SVG: title block, strip of layers, one card for each distinct block."""

from __future__ import annotations

from eulerc.ir.core import Module
from eulerc.viz.canvas import SOFT_INK, Canvas
from eulerc.viz.card import Card
from eulerc.viz.picture import Picture, picture_of
from eulerc.viz.strip import Strip
from eulerc.viz.text import cut, text_width, wrapped

WIDTH = 1200.0
MARGIN = 32.0
INNER = WIDTH - 2 * MARGIN
SPACE = 20.0
SHOWN = 4
"""Integrators that the title names."""


def svg(module: Module) -> str:
    """The picture of a module at stage `module`: the same bytes for the same design."""
    picture = picture_of(module)
    canvas = Canvas()
    y = _title(canvas, picture)
    strip = Strip(picture, MARGIN, WIDTH - MARGIN)
    strip.draw(canvas, y)
    y = _cards(canvas, picture, y + strip.height + 30)
    return canvas.document(WIDTH, y + MARGIN - SPACE, f"Architecture of {picture.name}", description(picture))


def description(picture: Picture) -> str:
    """The picture in words, for readers who do not see it."""
    numbers = ", ".join(f"{label} {value}" for label, value in picture.numbers)
    blocks = "; ".join(f"{kind.letter} is {kind.name}, {kind.where}" for kind in picture.kinds)
    integrators = f" Integrators: {'; '.join(picture.integrators)}." if picture.integrators else ""
    return f"{numbers}. Blocks: {blocks}.{integrators}"


def _title(canvas: Canvas, picture: Picture) -> float:
    """Name, description and numbers; where they end."""
    name = cut(picture.name, 27, INNER, bold=True)
    canvas.text(MARGIN, 54, name, 27, bold=True, note=picture.name)
    y = 54.0
    for line in list(wrapped(picture.about.split(), 14, INNER, " "))[:2]:
        y += 22
        canvas.text(MARGIN, y, line, 14, fill=SOFT_INK)
    for line in picture.integrators[:SHOWN]:
        y += 22
        canvas.text(MARGIN, y, cut(line, 14, INNER), 14, fill=SOFT_INK)
    y += 34
    return _tiles(canvas, picture, y) + 26


def _tiles(canvas: Canvas, picture: Picture, top: float) -> float:
    widths = [max(text_width(value, 17, bold=True), text_width(label, 11.5)) for label, value in picture.numbers]
    space = (INNER - sum(widths)) / max(len(widths) - 1, 1)
    x = MARGIN
    for (label, value), width in zip(picture.numbers, widths, strict=True):
        canvas.text(x, top, label, 11.5, fill=SOFT_INK)
        canvas.text(x, top + 22, value, 17, bold=True)
        x += width + min(space, 40)
    canvas.path([(MARGIN, top + 38), (WIDTH - MARGIN, top + 38)], stroke="#e1e5ea")
    return top + 38


def _cards(canvas: Canvas, picture: Picture, top: float) -> float:
    """Cards in rows of equal height; where they end."""
    columns = _columns(picture)
    width = (INNER - SPACE * (columns - 1)) / columns
    cards = [Card(kind, picture, width) for kind in picture.kinds]
    for start in range(0, len(cards), columns):
        row = cards[start : start + columns]
        height = max(card.height for card in row)
        left = MARGIN if len(cards) > columns else (WIDTH - len(row) * (width + SPACE) + SPACE) / 2
        for card in row:
            card.draw(canvas, left, top, height)
            left += width + SPACE
        top += height + SPACE
    return top


def _columns(picture: Picture) -> int:
    """Three cards in a row, or two where there are few or where sublayers stand side by side."""
    lanes = max(Card(kind, picture, INNER).wiring.lanes for kind in picture.kinds)
    if lanes > 2:
        return 1
    return 2 if lanes == 2 or len(picture.kinds) in (1, 2, 4) else 3
