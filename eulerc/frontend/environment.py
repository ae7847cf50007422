"""What the names of an expression stand for, and what can be wrong with an expression."""

from __future__ import annotations

from collections.abc import Mapping, Set

from attrs import evolve, field, frozen

from eulerc.frontend.tree import ScalarValue


@frozen
class Environment:
    """The values of `let.*`, `model.*`, `params.*`, `layer.index` and `layer.count`.

    `layer_index` and `layer_count` are None where no layer is meant. `failed` holds the full names (`let.x`) whose own
    expression was wrong: that has been reported, so an expression that uses them is left alone without a word.
    """

    let: Mapping[str, ScalarValue] = field(factory=dict)
    model: Mapping[str, ScalarValue] = field(factory=dict)
    params: Mapping[str, ScalarValue] = field(factory=dict)
    layer_index: int | None = None
    layer_count: int | None = None
    failed: Set[str] = frozenset()

    def having(self, namespace: str, values: Mapping[str, ScalarValue], failed: Set[str]) -> Environment:
        """This environment with all values of `let` or `model`, and all failed names, replaced."""
        if namespace == "let":
            return evolve(self, let=values, failed=failed)
        return evolve(self, model=values, failed=failed)

    def names(self, namespace: str) -> Mapping[str, ScalarValue]:
        """The names of `let`, `model`, `params` or `layer`."""
        layer = {"index": self.layer_index, "count": self.layer_count}
        return {"let": self.let, "model": self.model, "params": self.params, "layer": layer}[namespace]


class ExpressionError(Exception):
    """What is wrong with an expression, from character `start` up to `end` of its text."""

    def __init__(self, code: str, message: str, start: int, end: int, label: str, help: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.label, self.help = code, message, label, help
        self.start, self.end = start, end
