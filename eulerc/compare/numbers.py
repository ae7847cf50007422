"""The numbers of two models side by side."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from eulerc.ir.core import Module
from eulerc.ir.stats import statistics

ROWS = (
    ("parameters.total", "parameters"),
    ("parameters.active", "active parameters"),
    ("layers", "layers"),
    ("weights.bytes", "weights, bytes"),
    ("kv_cache.bytes_per_token", "KV cache, bytes a token"),
    ("kv_cache.bytes_per_sequence", "KV cache, bytes a sequence"),
    ("state.bytes_per_sequence", "other state, bytes a sequence"),
    ("flops_per_token.forward", "forward FLOPs a token"),
    ("flops_per_token.training", "training FLOPs a token"),
)
"""Paths into `eulerc stats --json`, with their words."""


@frozen
class Number:
    """One figure of both models."""

    key: str
    label: str
    old: int
    new: int

    @property
    def delta(self) -> int:
        return self.new - self.old

    @property
    def percent(self) -> float | None:
        """The change in percent of the old figure, to one decimal; None where that is 0."""
        return None if self.old == 0 else round(100 * self.delta / self.old, 1)


def common_length(old: Module, new: Module) -> int:
    """The longest sequence that both models are meant for."""
    return int(min(module.one("spec")["max_seq_len"] for module in (old, new)))


def numbers(old: Module, new: Module, length: int) -> list[Number]:
    """The figures of both models at one length."""
    before, after = statistics(old, length), statistics(new, length)
    return [Number(key, label, _at(before, key), _at(after, key)) for key, label in ROWS]


def _at(found: dict[str, Any], path: str) -> int:
    value: Any = found
    for key in path.split("."):
        value = value[key]
    return int(value)
