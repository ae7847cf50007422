"""The card of a distinct block: its ops beside the residual stream, with their real dimensions."""

from __future__ import annotations

from attrs import field, frozen

from eulerc.ir.core import Op, StateType
from eulerc.ir.definition import definition
from eulerc.viz.canvas import INK, PAPER, SOFT_INK, Canvas
from eulerc.viz.palette import BOXES, color_of
from eulerc.viz.picture import Kind, Picture
from eulerc.viz.text import cut, text_width, wrapped
from eulerc.viz.wiring import STREAM, Node, Wiring, wiring_of
from eulerc.viz.words import details, number, title

HEAD = 58
PADDING = 14
GAP = 22
"""Between two rows: room for an arrow and for the line that branches off above it."""
SUM_RADIUS = 9
LARGE, SMALL = 13.0, 12.0
LINE_HEIGHT = 17
TIMES = " \N{MULTIPLICATION SIGN} "


@frozen
class _Box:
    """An op as it is drawn: title, its parameters at the right of it, lines of detail."""

    title: str
    parameters: str
    lines: tuple[str, ...]

    @property
    def height(self) -> float:
        return 28 + LINE_HEIGHT * len(self.lines)


class Card:
    """One card, `width` pixels wide; `height` is what it needs."""

    def __init__(self, kind: Kind, picture: Picture, width: float) -> None:
        self.kind, self.picture, self.width = kind, picture, width
        self.wiring: Wiring = wiring_of(kind.body)
        stream = 150.0 if self.wiring.stream_has_boxes else 30.0
        self.stream_x = PADDING + stream / 2
        self.lane_left = PADDING + stream + 18
        lanes = max(self.wiring.lanes, 1)
        self.lane_width = (width - self.lane_left - PADDING - 12 * (lanes - 1)) / lanes
        self.stream_width = stream
        self.boxes = {
            index: self._box(node, kind.counts[index])
            for index, node in enumerate(self.wiring.nodes)
            if not node.is_sum
        }
        self.tops = self._tops()
        self.height = self.tops[-1] + 6

    def _box(self, node: Node, parameters: str) -> _Box:
        room = (self.stream_width if node.lane == STREAM else self.lane_width) - 20
        parameters = "" if parameters == "0" else parameters
        phrases = details(node.op, self.picture.ropes)
        name = title(node.op)
        if not _is_large(node.op):
            first, *others = wrapped([name, *phrases], LARGE, room)
            return _Box(first, "", tuple(others))
        name = cut(name, LARGE, room - text_width(parameters, SMALL) - 8, bold=True)
        lines = (*wrapped(phrases, SMALL, room), *wrapped(state_words(node.op), SMALL, room))
        return _Box(name, parameters, lines)

    def _tops(self) -> list[float]:
        """Where each row begins, and where the last one's gap ends."""
        tops = [float(HEAD + GAP + 6)]
        for row in range(self.wiring.rows):
            heights = [
                2 * SUM_RADIUS + 4 if node.is_sum else self.boxes[index].height
                for index, node in enumerate(self.wiring.nodes)
                if node.row == row
            ]
            tops.append(tops[-1] + max(heights, default=0) + GAP)
        return tops

    def draw(self, canvas: Canvas, left: float, top: float, height: float) -> None:
        """Draws the card with its corner at (left, top)."""
        pen = _Pen(self, canvas, left, top)
        canvas.open_group(f"block {self.kind.letter}: {self.kind.name}, {self.kind.where}")
        canvas.rect(left, top, self.width, height, "#fbfcfd", stroke="#cbd2d9", radius=8)
        pen.head()
        pen.stream_line()
        for index, node in enumerate(self.wiring.nodes):
            pen.edges(index, node)
        for index, node in enumerate(self.wiring.nodes):
            pen.node(index, node)
        canvas.close_group()


@frozen
class _Pen:
    """Draws one card at one place."""

    card: Card
    canvas: Canvas
    left: float
    top: float
    _reached: dict[tuple[float, float], float] = field(factory=dict, init=False)

    def head(self) -> None:
        card, kind = self.card, self.card.kind
        fill = color_of(kind.index)
        self.canvas.rect(self.left + 12, self.top + 12, 34, 34, fill, radius=6)
        self.canvas.text(self.left + 29, self.top + 35, kind.letter, 17, fill=PAPER, bold=True, anchor="middle")
        size = f"{kind.parameters} a layer"
        room = card.width - 58 - 14
        times = f"\N{MULTIPLICATION SIGN} {number(len(kind.layers))}"
        times_width = text_width(times, 15, bold=True)
        name = cut(kind.name, 15, room - times_width - 10, bold=True)
        x = self.left + 56
        self.canvas.text(x, self.top + 26, name, 15, bold=True, note=kind.name)
        right = self.left + card.width - 14
        self.canvas.text(right, self.top + 26, times, 15, bold=True, anchor="end")
        layers = kind.where
        layers_room = room - text_width(size, SMALL) - 12
        self.canvas.text(x, self.top + 44, cut(layers, SMALL, layers_room), SMALL, fill=SOFT_INK, note=layers)
        self.canvas.text(right, self.top + 44, size, SMALL, fill=SOFT_INK, anchor="end")

    def stream_line(self) -> None:
        """The residual stream from the top of the card to its end, behind all that stands on it."""
        x, start = self.left + self.card.stream_x, self.top + HEAD + 4
        self.canvas.path([(x, start), (x, self.top + self.card.tops[-1] - 2)], arrow=True)
        width = f"{self.card.kind.hidden_size}"
        self.canvas.text(x + 8, start + 9, width, 11, fill=SOFT_INK)

    def center(self, node: Node) -> float:
        card = self.card
        if node.lane == STREAM:
            return self.left + card.stream_x
        return self.left + card.lane_left + (node.lane - 1) * (card.lane_width + 12) + card.lane_width / 2

    def span(self, index: int, node: Node) -> tuple[float, float]:
        """Top and bottom of a node."""
        top = self.top + self.card.tops[node.row]
        return top, top + (2 * SUM_RADIUS if node.is_sum else self.card.boxes[index].height)

    def edges(self, index: int, node: Node) -> None:
        for source in node.inputs:
            self.edge(source, index, node)

    def edge(self, source: int | None, index: int, node: Node) -> None:
        """A line from a node, or from the top of the card, to another."""
        maker = None if source is None else self.card.wiring.nodes[source]
        from_stream = maker is None or maker.lane == STREAM
        if from_stream and node.lane == STREAM:
            return
        start = self.left + self.card.stream_x if maker is None else self.center(maker)
        end_x, (top, bottom) = self.center(node), self.span(index, node)
        middle = (top + bottom) / 2
        if from_stream:
            self.branch([(start, top - 12)], end_x, top)
        elif node.is_sum and maker is not None and maker.lane != node.lane:
            out = self.exit_x(maker, node, start)
            side = end_x + SUM_RADIUS + 1 if out > end_x else end_x - SUM_RADIUS - 1
            self.canvas.path([(out, self.bottom(source)), (out, middle), (side, middle)], arrow=True)
        elif start == end_x:
            self.canvas.path([(start, self.bottom(source)), (end_x, top - 1)], arrow=True)
            self._reached[start, top - 12] = end_x
        else:
            self.branch([(start, self.bottom(source)), (start, top - 12)], end_x, top)

    def branch(self, course: list[tuple[float, float]], end_x: float, top: float) -> None:
        """A line to the side and down into a box; where one to another box already goes, only the rest of it."""
        turn = course[-1]
        reached = self._reached.get(turn)
        start = course if reached is None else [(reached, turn[1])]
        self._reached[turn] = max(end_x, reached or end_x)
        self.canvas.path([*start, (end_x, turn[1]), (end_x, top - 1)], arrow=True)

    def bottom(self, index: int | None) -> float:
        assert index is not None
        return self.span(index, self.card.wiring.nodes[index])[1]

    def exit_x(self, maker: Node, target: Node, x: float) -> float:
        """Where a line leaves a box: its middle, or its right edge where another box stands below it."""
        nodes = self.card.wiring.nodes
        is_blocked = any(node.lane == maker.lane and maker.row < node.row <= target.row for node in nodes)
        return x + self.card.lane_width / 2 - 8 if is_blocked else x

    def node(self, index: int, node: Node) -> None:
        x, (top, bottom) = self.center(node), self.span(index, node)
        if node.is_sum:
            self.sum(x, (top + bottom) / 2)
        else:
            width = self.card.stream_width if node.lane == STREAM else self.card.lane_width
            self.box(self.card.boxes[index], node, x - width / 2, top, width)

    def sum(self, x: float, y: float) -> None:
        self.canvas.circle(x, y, SUM_RADIUS, PAPER, INK)
        self.canvas.path([(x - 5, y), (x + 5, y)], stroke=INK)
        self.canvas.path([(x, y - 5), (x, y + 5)], stroke=INK)

    def box(self, box: _Box, node: Node, x: float, y: float, width: float) -> None:
        fill, stroke = BOXES.get(definition(node.op.name).axis or "", BOXES[""])
        self.canvas.rect(x, y, width, box.height, fill, stroke=stroke, radius=5)
        self.canvas.text(x + 10, y + 18.5, box.title, LARGE, bold=_is_large(node.op))
        if box.parameters:
            self.canvas.text(x + width - 10, y + 18.5, box.parameters, SMALL, fill=SOFT_INK, anchor="end")
        for number_of_line, line in enumerate(box.lines, start=1):
            self.canvas.text(x + 10, y + 18.5 + LINE_HEIGHT * number_of_line, line, SMALL, fill="#3e4c59")


def _is_large(op: Op) -> bool:
    """Mixers and feed-forward networks have a box of several lines; the rest is said in one."""
    return definition(op.name).axis not in (None, "norm")


def state_words(op: Op) -> list[str]:
    """What an op keeps from token to token, a phrase each."""
    phrases = [phrase for state in op.carries for phrase in _state(state)]
    return [f"keeps {phrases[0]}", *phrases[1:]] if phrases else []


def _state(state: StateType) -> list[str]:
    sizes = [number(extent) for extent in state.dims if isinstance(extent, int) and int(extent) != 1]
    grows = next((str(extent) for extent in state.dims if isinstance(extent, str) and extent.startswith("t")), None)
    text = f"{state.kind.replace('_', ' ')} {TIMES.join(sizes)}"
    if grows is None:
        return [text]
    if grows.startswith("t/"):
        return [f"{text} every {grows.removeprefix('t/')} tokens"]
    limit = grows.removeprefix("t<=")
    return [f"{text} a token", *([f"the last {number(int(limit))}"] if limit.isdigit() else [])]
