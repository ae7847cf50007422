"""Where the ops of a block stand in its picture: rows by depth, lanes beside the residual stream."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen

from eulerc.ir.core import Block, Op

STREAM = 0
"""The lane of the residual stream."""


@frozen
class Node:
    """An op at its place; `inputs` are the places of the nodes it reads, None for the block's own argument."""

    op: Op
    row: int
    lane: int
    inputs: tuple[int | None, ...]

    @property
    def is_sum(self) -> bool:
        return self.op.name == "add"


@frozen
class Wiring:
    """The nodes of a block in the order of its ops; `output` is the node that the block yields."""

    nodes: tuple[Node, ...]
    output: int | None

    @property
    def rows(self) -> int:
        return max((node.row for node in self.nodes), default=-1) + 1

    @property
    def lanes(self) -> int:
        """Lanes beside the stream."""
        return max((node.lane for node in self.nodes), default=0)

    @property
    def stream_has_boxes(self) -> bool:
        return any(node.lane == STREAM and not node.is_sum for node in self.nodes)


def wiring_of(block: Block) -> Wiring:
    """Lays out the ops of a block, top down."""
    ops = [op for op in block.ops if op.name != "yield"]
    makers = {result.name: index for index, op in enumerate(ops) for result in op.results}
    inputs = [tuple(makers.get(operand.name) for operand in op.operands) for op in ops]
    results = next((op.operands for op in block.ops if op.name == "yield"), ())
    output = makers.get(results[0].name) if results else None
    stream = _Graph(inputs).stream(output)
    rows: list[int] = []
    lanes: list[int] = []
    taken: set[tuple[int, int]] = set()
    for index, sources in enumerate(inputs):
        row = _row(index, sources, rows, lanes, stream)
        lane = STREAM if index in stream else _lane(row, sources, lanes, taken)
        taken.add((row, lane))
        rows.append(row)
        lanes.append(lane)
    nodes = (Node(*parts) for parts in zip(ops, rows, lanes, inputs, strict=True))
    return Wiring(tuple(nodes), output)


def _row(index: int, sources: Sequence[int | None], rows: list[int], lanes: list[int], stream: frozenset[int]) -> int:
    """One below the deepest input; on the stream, below all that stands beside it too, so that lines stay short."""
    below = [rows[source] for source in sources if source is not None]
    if index in stream:
        below += [row for row, lane in zip(rows, lanes, strict=True) if lane == STREAM]
    return max(below, default=-1) + 1


def _lane(row: int, sources: Sequence[int | None], lanes: list[int], taken: set[tuple[int, int]]) -> int:
    """The lane of the first input beside the stream, or the next free one to its right."""
    lane = next((lanes[source] for source in sources if source is not None and lanes[source] != STREAM), 1)
    while (row, lane) in taken:
        lane += 1
    return lane


@frozen
class _Graph:
    inputs: list[tuple[int | None, ...]]
    _ancestors: dict[int, frozenset[int | None]] = field(factory=dict, init=False)

    def ancestors(self, index: int | None) -> frozenset[int | None]:
        """The nodes that a value depends on, and None for the block's argument."""
        if index is None:
            return frozenset()
        if index not in self._ancestors:
            found: set[int | None] = set()
            for source in self.inputs[index]:
                found |= {source} | self.ancestors(source)
            self._ancestors[index] = frozenset(found)
        return self._ancestors[index]

    def stream(self, output: int | None) -> frozenset[int]:
        """The nodes on the residual stream: from the output up, always by the input that the others depend on."""
        nodes: set[int] = set()
        while output is not None:
            nodes.add(output)
            sources = self.inputs[output]
            output = next(
                (one for one in sources if any(one in self.ancestors(other) for other in sources)),
                sources[0] if sources else None,
            )
        return frozenset(nodes)
