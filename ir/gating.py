"""The gates of layers that some tokens go past: whether a layer has one, and how many tokens go through it."""

from __future__ import annotations

from eulerc.ir.core import Op

GATE = "depth_gate"


def gate_of(template: Op) -> Op | None:
    """The gate of a layer; None where all tokens go through."""
    return next((op for op in template.ops if op.name == GATE), None)


def gone_through(capacity: float, length: int) -> int:
    """How many tokens of `length` go through a layer in training."""
    return max(1, round(capacity * length))
