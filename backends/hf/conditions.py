"""Which way a test of a component goes, given the facts."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Container, Mapping
from enum import Enum
from typing import Any, Final

from attrs import frozen

from eulerc.backends.hf.source_edit import Source, SpecialiseError


class Marker(Enum):
    """Values that are no values."""

    PRESENT = "a number that only the config holds"
    UNKNOWN = "known at run time only"

    def __repr__(self) -> str:
        return self.name


PRESENT: Final = Marker.PRESENT
"""The fact about an optional size that has a number: it decides `is None`, and the number stays in the config."""


def _is_in(item: object, items: object) -> bool:
    if not isinstance(items, Container):
        raise TypeError(f"{items!r} holds nothing")
    return item in items


_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: _is_in,
    ast.NotIn: lambda item, items: not _is_in(item, items),
}


def config_field(node: ast.AST) -> str | None:
    """The field that `config.x`, `sizes.x` or a module's `config.x` reads; None for any other expression."""
    if not isinstance(node, ast.Attribute):
        return None
    match node.value:
        case ast.Name(id="config" | "sizes") | ast.Attribute(value=ast.Name(id="self" | "module"), attr="config"):
            return node.attr
    return None


def literal(value: object) -> str:
    """The literal of a fact, as `ruff format` writes it. Raises TypeError for what has no literal."""
    if isinstance(value, str):
        text = str.__repr__(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float) and abs(value) < float("inf"):
        return float.__repr__(value)
    raise TypeError(f"{value!r} has no literal")


@frozen
class Facts:
    """What is known about one use of a component.

    `values` holds the facts by config field; `per_layer` names the fields that differ between layers, which stay
    reads of `sizes`; `drop_parameters` are parameters of `__init__` and `forward` that this use does not take.
    """

    values: Mapping[str, object]
    per_layer: frozenset[str] = frozenset()
    drop_parameters: frozenset[str] = frozenset()


@frozen
class Conditions:
    """Decides the tests of one source."""

    source: Source
    facts: Mapping[str, object]

    def check(self, test: ast.expr) -> bool:
        """Whether the test reads the config at all. Raises SpecialiseError when it reads a field that is no fact."""
        reads = [node for node in ast.walk(test) if config_field(node)]
        for node in reads:
            if config_field(node) not in self.facts:
                raise self.source.error(node, f"the test reads config.{config_field(node)}, an undecided fact")
        return bool(reads)

    def decide(self, test: ast.expr) -> bool | None:
        """True or False, or None when only the run time knows.

        Raises SpecialiseError as `check` does, and when the test asks more of a size than whether it is None.
        """
        return self._decide(test) if self.check(test) else None

    def _decide(self, test: ast.expr) -> bool | None:
        match test:
            case ast.BoolOp():
                return self._decide_operands(test)
            case ast.UnaryOp(op=ast.Not()):
                decision = self._decide(test.operand)
                return None if decision is None else not decision
            case ast.Compare():
                return self._compare(test)
        value = self._value(test)
        if value is PRESENT:
            raise self._present(test)
        return None if value is Marker.UNKNOWN else bool(value)

    def _decide_operands(self, test: ast.BoolOp) -> bool | None:
        absorbing = isinstance(test.op, ast.Or)
        undecided = False
        for operand in test.values:
            decision = self._decide(operand)
            if decision is absorbing:
                return absorbing
            undecided |= decision is None
        return None if undecided else not absorbing

    def _compare(self, test: ast.Compare) -> bool | None:
        values = [self._value(operand) for operand in (test.left, *test.comparators)]
        if Marker.UNKNOWN in values:
            return None
        if PRESENT in values:
            if len(values) == 2 and None in values and isinstance(test.ops[0], ast.Is | ast.IsNot):
                return isinstance(test.ops[0], ast.IsNot)
            raise self._present(test)
        try:
            return all(
                _COMPARISONS[type(comparison)](left, right)
                for comparison, left, right in zip(test.ops, values, values[1:], strict=False)
            )
        except TypeError as error:
            raise self.source.error(test, f"the facts {values} cannot be compared so: {error}") from error

    def _value(self, node: ast.expr) -> object:
        field = config_field(node)
        if field is not None:
            return self.facts[field]
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError):
            return Marker.UNKNOWN

    def _present(self, test: ast.expr) -> SpecialiseError:
        fields = ", ".join(f"config.{config_field(node)}" for node in ast.walk(test) if config_field(node))
        return self.source.error(test, f"{fields} is a size, of which a test may only ask whether it is None")
