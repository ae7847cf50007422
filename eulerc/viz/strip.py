"""The strip of all layers in the order of depth, between the ops before it and after it."""

from __future__ import annotations

from math import ceil

from attrs import frozen

from eulerc.ir.core import Op
from eulerc.viz.canvas import INK, PAPER, SOFT_INK, Canvas
from eulerc.viz.links import LEVEL, draw_links, levels_of
from eulerc.viz.palette import BOXES, color_of
from eulerc.viz.picture import Picture
from eulerc.viz.text import cut, text_width, wrapped
from eulerc.viz.words import details, title

SIDE = 232.0
"""Width of the columns of ops at both ends."""
GAP = 42.0
CELL_HEIGHT, LABEL_HEIGHT = 30.0, 20.0
ROWS = ((128, 32), (512, 64), (4096, 128))
"""Up to so many layers, at most so many in a row."""
SIZE = 12.5


@frozen
class _Pill:
    """An op outside the layers, or one end of the model."""

    lines: tuple[str, ...]
    axis: str | None = None
    is_end: bool = False

    @property
    def height(self) -> float:
        return 12.0 + 16 * len(self.lines)


@frozen
class Strip:
    """The middle of a picture: `left` to `right` are the pixels it may take."""

    picture: Picture
    left: float
    right: float

    @property
    def before(self) -> list[_Pill]:
        return [_Pill(("token ids",), is_end=True), *map(self.pill, self.picture.before)]

    @property
    def after(self) -> list[_Pill]:
        return [*map(self.pill, self.picture.after), _Pill(("logits",), is_end=True)]

    def pill(self, op: Op) -> _Pill:
        phrases = [title(op), *details(op, self.picture.ropes)]
        axis = "norm" if op.name.startswith("norm.") else ""
        return _Pill(tuple(wrapped(phrases, SIZE, SIDE - 24)), axis)

    @property
    def per_row(self) -> int:
        """Layers in a row: rows of equal length."""
        count = len(self.picture.depth)
        most = next((most for limit, most in ROWS if count <= limit), ROWS[-1][1])
        return ceil(count / ceil(count / most))

    @property
    def rows(self) -> int:
        return ceil(len(self.picture.depth) / self.per_row)

    @property
    def top_room(self) -> float:
        """Room above for the line that ties the two ends."""
        return 34.0 if self.picture.is_tied else 8.0

    @property
    def inner_height(self) -> float:
        columns = max(_column_height(self.before), _column_height(self.after))
        return max(columns, self.rows * self.row_height + self.legend_height)

    @property
    def row_height(self) -> float:
        """Brackets, cells and numbers."""
        return LEVEL * levels_of(self.picture.links) + CELL_HEIGHT + LABEL_HEIGHT

    @property
    def legend_height(self) -> float:
        return 18.0 if self.picture.links else 0.0

    @property
    def height(self) -> float:
        return self.top_room + self.inner_height

    def draw(self, canvas: Canvas, top: float) -> None:
        inner_top = top + self.top_room
        middle = inner_top + self.inner_height / 2
        first, last = self.left + 18, self.right - 18 - SIDE
        places = self.column(canvas, self.before, first, middle)
        cells = self.cells(canvas, first + SIDE + GAP, last - GAP, middle)
        ends = self.column(canvas, self.after, last, middle)
        _join(canvas, (first + SIDE, places[-1]), (cells[0] - 5, middle), first + SIDE + GAP / 2 - 6)
        _join(canvas, (cells[1] + 3, middle), (last - 1, ends[0]), last - GAP / 2 + 2)
        if self.picture.is_tied:
            self.tie(canvas, top, places, ends)

    def column(self, canvas: Canvas, pills: list[_Pill], x: float, middle: float) -> list[float]:
        """Draws pills from top to bottom; the middles of all of them."""
        y = middle - _column_height(pills) / 2
        middles = []
        for index, pill in enumerate(pills):
            if index:
                canvas.path([(x + SIDE / 2, y - 18), (x + SIDE / 2, y - 1)], arrow=True)
            _draw_pill(canvas, pill, x, y)
            middles.append(y + pill.height / 2)
            y += pill.height + 18
        return middles

    def cells(self, canvas: Canvas, left: float, right: float, middle: float) -> tuple[float, float]:
        """Draws the layers row by row; where the rows begin and end."""
        pitch = min((right - left) / self.per_row, 44.0)
        x = (left + right) / 2 - pitch * self.per_row / 2
        y = middle - (self.rows * self.row_height + self.legend_height) / 2 + LABEL_HEIGHT / 2
        if self.picture.links:
            names = ", ".join(dict.fromkeys(link.key.replace("_", " ") for link in self.picture.links))
            legend = cut(f"{names}: arrows lead to layers that share an earlier one's", 11, right - left)
            canvas.text((left + right) / 2, y, legend, 11, fill=SOFT_INK, anchor="middle")
        y += self.legend_height + self.row_height - CELL_HEIGHT - LABEL_HEIGHT
        for start in range(0, len(self.picture.depth), self.per_row):
            self.row(canvas, start, x, y, pitch)
            y += self.row_height
        return x, x + pitch * self.per_row

    def row(self, canvas: Canvas, start: int, left: float, top: float, pitch: float) -> None:
        kinds = self.picture.depth[start : start + self.per_row]
        for offset, kind in enumerate(kinds):
            x = left + offset * pitch
            letter = self.picture.kinds[kind].letter
            canvas.open_group(f"layer {start + offset}: {self.picture.kinds[kind].name}")
            canvas.rect(
                x, top, pitch - (2 if pitch > 8 else 0.6), CELL_HEIGHT, color_of(kind), radius=min(4, pitch / 4)
            )
            if pitch - 4 > text_width(letter, 12, bold=True):
                canvas.text(x + pitch / 2 - 1, top + 20, letter, 12, fill=PAPER, bold=True, anchor="middle")
            canvas.close_group()
        end = start + len(kinds)
        draw_links(
            canvas, self.picture.links, start, end - 1, top, lambda layer: left + (layer - start + 0.5) * pitch - 1
        )
        is_last = end == len(self.picture.depth)
        for offset in _labelled(len(kinds), pitch, is_last):
            x = left + (offset + 0.5) * pitch - 1
            canvas.text(x, top + CELL_HEIGHT + 13, str(start + offset), 10.5, fill=SOFT_INK, anchor="middle")

    def tie(self, canvas: Canvas, top: float, places: list[float], ends: list[float]) -> None:
        """The dashed line between the embedding and the head that use one table."""
        start = places[1 + next(i for i, op in enumerate(self.picture.before) if op.name == "embed")]
        end = ends[next(i for i, op in enumerate(self.picture.after) if op.get("tied"))]
        y = top + 10
        course = [(self.left + 18, start), (self.left, start), (self.left, y)]
        course += [(self.right, y), (self.right, end), (self.right - 18, end)]
        canvas.path(course, stroke=BOXES[""][1], dashed=True)
        label = "tied weights"
        width = text_width(label, 12) + 16
        center = (self.left + self.right) / 2
        canvas.rect(center - width / 2, y - 9, width, 18, PAPER)
        canvas.text(center, y + 4, label, 12, fill=INK, anchor="middle")


def _column_height(pills: list[_Pill]) -> float:
    return sum(pill.height for pill in pills) + 18 * (len(pills) - 1)


def _draw_pill(canvas: Canvas, pill: _Pill, x: float, y: float) -> None:
    if not pill.is_end:
        fill, stroke = BOXES[pill.axis or ""]
        canvas.rect(x, y, SIDE, pill.height, fill, stroke=stroke, radius=pill.height / 2 if len(pill.lines) == 1 else 8)
    for number, line in enumerate(pill.lines):
        text = cut(line, SIZE, SIDE - 20)
        fill = SOFT_INK if pill.is_end else INK
        canvas.text(x + SIDE / 2, y + 18.5 + 16 * number, text, SIZE, fill=fill, anchor="middle")


def _labelled(count: int, pitch: float, with_last: bool) -> list[int]:
    """The cells of a row that carry their number: the first, as many as have room, the last of the model."""
    room = text_width("8888", 10.5) + 4
    step = next(step for step in (1, 2, 4, 5, 8, 10, 16, 20, 32, 64, 128) if step * pitch >= room or step == 128)
    found = list(range(0, count, step))
    if with_last and found[-1] != count - 1:
        if len(found) > 1 and (count - 1 - found[-1]) * pitch < room:
            found.pop()
        if (count - 1 - found[-1]) * pitch >= room:
            found.append(count - 1)
    return found


def _join(canvas: Canvas, start: tuple[float, float], end: tuple[float, float], turn: float) -> None:
    """An arrow that goes up or down at `turn`."""
    course = [start, (turn, start[1]), (turn, end[1]), end]
    canvas.path(course if start[1] != end[1] else [start, end], arrow=True)
