"""Structural verification: what must hold of every module after every pass, whatever its ops mean.

A module that passes can be printed and read back as itself (`eulerc.ir.printer`, `eulerc.ir.parser`).
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Container, Iterator, Sequence
from itertools import chain
from math import isnan
from typing import Any

from attrs import field, frozen

from eulerc.ir.core import Block, Extent, Module, Op, Symbol, TensorType, Value
from eulerc.ir.printer import print_op
from eulerc.ir.span import NOWHERE
from eulerc.ir.text import (
    LARGEST_INTEGER,
    MAX_DEPTH,
    MAX_VALUE_DEPTH,
    NAME,
    RESERVED_DTYPES,
    RESERVED_OPS,
    RUNTIME_EXTENT,
    SMALLEST_INTEGER,
    STAGES,
    has_surrogates,
    is_dim_name,
    runtime_names,
    sizes_by_name,
)


class VerifyError(Exception):
    """A module breaks a rule of the IR: the fault of a pass, not of a spec. Shows the op and its neighbours."""

    def __init__(self, complaint: str, ops: Sequence[Op], index: int) -> None:
        self.op = ops[index]
        place = "" if self.op.span == NOWHERE else f"\n  from {self.op.span}"
        lines = [
            f"{'>' if position == index else ' '} {print_op(ops[position])}"
            for position in range(max(0, index - 1), min(len(ops), index + 2))
        ]
        super().__init__(f"{complaint}{place}\n" + "\n".join(lines))


def verify(module: Module, *, allowed: Container[str] | None = None) -> None:
    """Raise `VerifyError` at the first op that breaks a rule; `allowed` names the ops that the stage may hold.

    Values are defined once in a block and before their use, in it or in a block around it; symbols that attributes
    name are defined by an op in a block around them; `yield` ends its block; attributes are null, booleans, 64-bit
    integers, floats other than nan, strings, symbols, and lists and dictionaries of these; one dim has one size.
    """
    for complaint in _module_complaints(module):
        raise VerifyError(complaint, (module.model,), 0)
    # The model's own attributes may name what its body defines.
    symbols = {op.symbol: True for op in module.model.ops if op.symbol is not None}
    _verify_block(Block(ops=(module.model,)), _Scope(allowed, symbols=ChainMap(symbols)))


@frozen
class _Scope:
    """What is visible where an op stands."""

    allowed: Container[str] | None
    values: ChainMap[str, Value] = field(factory=ChainMap)
    symbols: ChainMap[str, bool] = field(factory=ChainMap)
    depth: int = 0

    def inner(self) -> _Scope:
        return _Scope(self.allowed, self.values.new_child(), self.symbols.new_child(), self.depth + 1)


def _verify_block(block: Block, scope: _Scope) -> None:
    scope.values.update({argument.name: argument for argument in block.arguments})
    names = [op.symbol for op in block.ops if op.symbol is not None]
    if scope.depth > 0:
        scope.symbols.update(dict.fromkeys(names, True))
    for index, op in enumerate(block.ops):
        for complaint in _complaints(op, scope):
            raise VerifyError(complaint, block.ops, index)
        if op.name == "yield" and index + 1 < len(block.ops):
            raise VerifyError("`yield` is not the last op of its block", block.ops, index)
        if op.symbol is not None and names.count(op.symbol) > 1:
            raise VerifyError(f"@{op.symbol} is defined twice in its block", block.ops, index)
        if op.body is not None:
            _verify_block(op.body, scope.inner())
        scope.values.update({result.name: result for result in op.results})


def _module_complaints(module: Module) -> Iterator[str]:
    if module.stage not in STAGES:
        yield f"`{module.stage}` is not a stage"
    if module.model.name != "model" or module.model.body is None:
        yield "the outermost op is not a model with a body"
    runtime = runtime_names(module)
    for name, sizes in sizes_by_name(module).items():
        if not is_dim_name(name):
            yield f"`{name}` cannot name a dim"
        if len(sizes) > 1:
            yield f"dim `{name}` has the sizes {', '.join(map(str, sorted(sizes)))}"
        if name in runtime:
            yield f"`{name}` is both a dim and a run-time dimension"


def _complaints(op: Op, scope: _Scope) -> Iterator[str]:
    """What is wrong with one op, its body aside."""
    yield from _name_complaints(op, scope)
    for operand in op.operands:
        defined = scope.values.get(operand.name)
        if defined is None:
            yield f"%{operand.name} is not defined before its use"
        elif defined.type != operand.type:
            yield f"%{operand.name} is used as {operand.type} but defined as {defined.type}"
    yield from _definition_complaints(op, scope)
    yield from _value_complaints(dict(op.attributes), "", scope.symbols, 0)
    yield from _type_complaints(op)
    if scope.depth >= MAX_DEPTH and op.body is not None:
        yield f"ops are nested more than {MAX_DEPTH} deep"


def _name_complaints(op: Op, scope: _Scope) -> Iterator[str]:
    if NAME.fullmatch(op.name) is None or op.name in RESERVED_OPS:
        yield f"`{op.name}` cannot name an op"
    elif scope.allowed is not None and op.name not in scope.allowed:
        yield f"`{op.name}` is not an op of this stage"


def _definition_complaints(op: Op, scope: _Scope) -> Iterator[str]:
    results = [result.name for result in op.results]
    for name in results:
        if name in scope.values.maps[0] or results.count(name) > 1:
            yield f"%{name} is defined twice in its block"
    arguments = [argument.name for argument in op.body.arguments] if op.body is not None else []
    for name in arguments:
        if arguments.count(name) > 1:
            yield f"%{name} is twice an argument of one body"


def _value_complaints(value: object, path: str, symbols: Container[str], depth: int) -> Iterator[str]:
    if isinstance(value, (dict, list)):
        if depth > MAX_VALUE_DEPTH:
            yield f"attribute `{path[:40]}` is nested more than {MAX_VALUE_DEPTH} deep"
            return
        for inner_path, item in _parts(value, path):
            yield from _value_complaints(item, inner_path, symbols, depth + 1)
        if isinstance(value, dict):
            yield from (f"the key {key!r} is not a string" for key in value if type(key) is not str)
    elif isinstance(value, Symbol):
        if value not in symbols:
            yield f"attribute `{path}` names @{value}, which no op defines"
    elif not _is_scalar(value):
        yield f"attribute `{path}` has a value that is not allowed: {value!r}"


def _parts(value: dict[str, Any] | list[Any], path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, list):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
    else:
        yield from ((f"{path}.{key}".removeprefix("."), item) for key, item in value.items())


def _is_scalar(value: object) -> bool:
    if isinstance(value, int):
        return SMALLEST_INTEGER <= value <= LARGEST_INTEGER
    if isinstance(value, float):
        return not isnan(value)
    return value is None or (isinstance(value, str) and not has_surrogates(value))


def _type_complaints(op: Op) -> Iterator[str]:
    arguments = op.body.arguments if op.body is not None else ()
    carried = [TensorType(state.dims, state.dtype) for state in op.carries]
    types = [*(value.type for value in (*arguments, *op.results)), *carried]
    for kind in (state.kind for state in op.carries):
        if NAME.fullmatch(kind) is None:
            yield f"`{kind}` cannot name a kind of state"
    for dtype in (item.dtype for item in types if item.dtype is not None):
        if NAME.fullmatch(dtype) is None or dtype in RESERVED_DTYPES:
            yield f"`{dtype}` cannot name a dtype"
    for extent in chain.from_iterable(item.dims for item in types):
        if not _is_extent(extent):
            yield f"{extent!r} is not a dimension"


def _is_extent(extent: Extent) -> bool:
    if isinstance(extent, str):
        return RUNTIME_EXTENT.fullmatch(extent) is not None
    return isinstance(extent, int) and not isinstance(extent, bool) and _is_scalar(extent)
