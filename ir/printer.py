"""The textual IR, written: one op a line, symbolic types, re-rolled lists.

The printer knows no particular op but one piece of sugar: a list called `schedule` stands before the other attributes
without its name. A line longer than `WIDTH` breaks its attributes, one a line. `eulerc.ir.parser` reads it all back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isinf, isnan

from attrs import field, frozen

from eulerc.ir.core import Attribute, Dim, Extent, Module, Op, StateType, Symbol, TensorType, Value
from eulerc.ir.rolling import Leaf, roll, written
from eulerc.ir.span import NOWHERE, Span
from eulerc.ir.text import (
    VERSION,
    extents_of,
    is_dim_name,
    key_name,
    quoted,
    runtime_names,
    sizes_by_name,
    symbol_name,
    value_name,
)

WIDTH = 120


def print_module(module: Module, *, locs: bool = False, annotations: Mapping[int, str] | None = None) -> str:
    """The text of a module.

    `locs` ends every op with `loc("spec.yaml":14:5..9)`: source, line, column, end. `annotations` maps the `id` of an
    op to a comment at the end of its first line. A dim whose name is not usable (two sizes, a run-time dimension of
    that name) is written as its number; `eulerc.ir.verify` refuses such modules.
    """
    taken = runtime_names(module)
    sizes = {
        name: min(found)
        for name, found in sizes_by_name(module).items()
        if len(found) == 1 and is_dim_name(name) and name not in taken
    }
    printer = _Printer(sizes, locs, annotations or {})
    return f"euler.ir v{VERSION} {module.stage}\n\n" + "\n".join(printer.model(module.model)) + "\n"


def print_op(op: Op) -> str:
    """One op on one line, its body elided: what an error message shows."""
    sizes = {extent.name: int(extent) for extent in extents_of(op) if isinstance(extent, Dim)}
    printer = _Printer(sizes)
    return printer.flat_head(op) + (" { ... }" if op.body is not None else "") + printer.tail(op)


@frozen
class _Printer:
    """`sizes` holds the dims that are written by name."""

    sizes: Mapping[str, int]
    locs: bool = False
    annotations: Mapping[int, str] = field(factory=dict)

    def model(self, model: Op) -> Iterator[str]:
        """The lines of the outermost op: declarations of dims, then its ops, set apart by blank lines at bodies."""
        groups = [[f"  dim {name} = {size}" for name, size in self.sizes.items()]]
        after_body = True
        for op in model.ops:
            if after_body or op.body is not None:
                groups.append([])
            groups[-1] += self.operation(op, 2)
            after_body = op.body is not None
        lines = [line for group in groups if group for line in ("", *group)]
        yield from self.with_body(model, 0, lines[1:])

    def operation(self, op: Op, indent: int) -> Iterator[str]:
        if op.body is not None:
            yield from self.with_body(
                op, indent, [line for inner in op.ops for line in self.operation(inner, indent + 2)]
            )
        else:
            yield self.with_comment(op, self.head(op, indent, self.tail(op)) + self.location(op.span))

    def with_body(self, op: Op, indent: int, lines: Sequence[str]) -> Iterator[str]:
        end = "}" + self.tail(op) + self.location(op.span)
        head = self.head(op, indent, " {")
        if lines:
            yield self.with_comment(op, head)
            yield from lines
            yield " " * indent + end
        else:
            yield self.with_comment(op, head + end)

    def with_comment(self, op: Op, text: str) -> str:
        """The comment ends the first line, where a reader looks for it."""
        annotation = self.annotations.get(id(op))
        if annotation is None:
            return text
        first, line_break, rest = text.partition("\n")
        return f"{first}  # {' '.join(annotation.split())}{line_break}{rest}"

    def head(self, op: Op, indent: int, end: str) -> str:
        """All that stands before an op's body or result types; broken over lines if `end` would pass `WIDTH`."""
        flat = " " * indent + self.flat_head(op)
        if len(flat) + len(end) <= WIDTH:
            return flat + end
        schedule, attributes = _split(op)
        text = " " * indent + self.opening(op)
        if schedule is not None:
            text += " " + (
                self.fitted(schedule, indent, len(text) + 3) if attributes else self.broken(schedule, indent)
            )
        if attributes:
            text += " " + self.broken(attributes, indent)
        return text + end

    def flat_head(self, op: Op) -> str:
        schedule, attributes = _split(op)
        parts = [self.opening(op)]
        if schedule is not None:
            parts.append(self.flat(schedule))
        if attributes:
            parts.append(self.flat(attributes))
        return " ".join(parts)

    def opening(self, op: Op) -> str:
        """`%r1, %r2 = name @symbol(%arg: type) %operand`."""
        text = ", ".join(value_name(result.name) for result in op.results) + " = " if op.results else ""
        text += op.name
        if op.symbol is not None:
            text += " " + symbol_name(op.symbol)
        if op.body is not None and op.body.arguments:
            text += "(" + ", ".join(map(self.argument, op.body.arguments)) + ")"
        if op.operands:
            text += " " + ", ".join(value_name(operand.name) for operand in op.operands)
        return text

    def tail(self, op: Op) -> str:
        """` : types carries states`."""
        text = " : " + ", ".join(self.type(result.type) for result in op.results) if op.results else ""
        return text + (" carries " + ", ".join(map(self.state, op.carries)) if op.carries else "")

    def location(self, span: Span) -> str:
        if not self.locs or span == NOWHERE:
            return ""
        end = f"..{span.end_line}:{span.end_column}"
        if span.end_line == span.line:
            end = f"..{span.end_column}" if span.end_column != span.column + 1 else ""
        return f" loc({quoted(span.source)}:{span.line}:{span.column}{end})"

    def argument(self, value: Value) -> str:
        return f"{value_name(value.name)}: {self.type(value.type)}"

    def type(self, type: TensorType) -> str:
        return self.extents(type.dims) + (f" {type.dtype}" if type.dtype is not None else "")

    def state(self, state: StateType) -> str:
        return state.kind + self.extents(state.dims) + (f" {state.dtype}" if state.dtype is not None else "")

    def extents(self, dims: Sequence[Extent]) -> str:
        return "[" + ", ".join(self.dim(extent) if isinstance(extent, Dim) else str(extent) for extent in dims) + "]"

    def dim(self, dim: Dim) -> str:
        return dim.name if self.sizes.get(dim.name) == int(dim) else str(int(dim))

    def flat(self, value: Attribute) -> str:
        """A value on one line."""
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key_name(str(key))} = {self.flat(item)}" for key, item in value.items()) + "}"
        if isinstance(value, (list, tuple)):
            texts = [self.flat(item) for item in value]
            return "[" + written(roll(texts), texts) + "]"
        return self.dim(value) if isinstance(value, Dim) else _scalar(value)

    def fitted(self, value: Attribute, indent: int, used: int) -> str:
        """A value that starts `used` columns into a line: on that line if it fits, else broken over several."""
        flat = self.flat(value)
        if used + len(flat) <= WIDTH or not isinstance(value, (dict, list)) or not value:
            return flat
        return self.broken(value, indent)

    def broken(self, value: dict[str, Attribute] | list[Attribute], indent: int) -> str:
        """A value over several lines: the entries of a mapping one a line, the items of a list filling the lines."""
        inner, outer = "\n" + " " * (indent + 2), "\n" + " " * indent
        if isinstance(value, list):
            return "[" + "".join(inner + line for line in self.filled(value, indent + 2)) + outer + "]"
        keys = {key: f"{key_name(key)} = " for key in value}
        entries = (
            keys[key] + self.fitted(item, indent + 2, indent + 3 + len(keys[key])) for key, item in value.items()
        )
        return "{" + "".join(f"{inner}{entry}," for entry in entries) + outer + "}"

    def filled(self, values: list[Attribute], indent: int) -> list[str]:
        texts = [self.flat(item) for item in values]
        lines: list[str] = []
        for item in roll(texts):
            if isinstance(item, Leaf) and item.count == 1:
                piece = self.fitted(values[item.index], indent, indent + 1)
            else:
                piece = written((item,), texts)
            if lines and "\n" not in lines[-1] + piece and indent + len(lines[-1]) + len(piece) + 2 <= WIDTH:
                lines[-1] += f" {piece},"
            else:
                lines.append(f"{piece},")
        return lines


def _split(op: Op) -> tuple[list[Attribute] | None, dict[str, Attribute]]:
    """The schedule, if it is a list, and the other attributes."""
    attributes = dict(op.attributes)
    schedule = attributes.get("schedule")
    if not isinstance(schedule, list):
        return None, attributes
    del attributes["schedule"]
    return schedule, attributes


def _scalar(value: Attribute) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and not isnan(value):
        return _number(value)
    if isinstance(value, str):
        return symbol_name(value) if isinstance(value, Symbol) else quoted(value)
    return f"?{value!r}"


def _number(value: float) -> str:
    """The shortest decimal that reads back as `value`, always with a `.` or an `e`."""
    if isinf(value):
        return "inf" if value > 0 else "-inf"
    mantissa, exponent_mark, exponent = repr(value).partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent_mark else mantissa
