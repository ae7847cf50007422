"""The short form of the textual IR: attributes that have their implicit value are left out, and put back."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from eulerc.ir.core import Block, Module, Op
from eulerc.ir.definition import definition, is_known


def compact(module: Module) -> Module:
    """The module without implicit attributes: what `dump-ir` prints."""
    return evolve(module, model=_mapped(module.model, shortened))


def complete(module: Module) -> Module:
    """The module with every attribute: what passes read. Undoes `compact`, and changes nothing that is complete."""
    return evolve(module, model=_mapped(module.model, completed))


def shortened(op: Op) -> Op:
    """An op without the attributes that have their implicit value."""
    implicit = definition(op.name).implicit if is_known(op.name) else {}
    kept = {
        name: value for name, value in op.attributes.items() if name not in implicit or not _same(value, implicit[name])
    }
    return evolve(op, attributes=kept)


def completed(op: Op) -> Op:
    """An op with its implicit attributes."""
    implicit = definition(op.name).implicit if is_known(op.name) else {}
    missing = {name: value for name, value in implicit.items() if name not in op.attributes}
    return evolve(op, attributes={**op.attributes, **missing})


def _same(value: object, implicit: object) -> bool:
    return type(value) is type(implicit) and value == implicit


def _mapped(op: Op, change: Callable[[Op], Op]) -> Op:
    body = op.body
    if body is not None:
        body = Block(body.arguments, tuple(_mapped(inner, change) for inner in body.ops))
    return change(evolve(op, body=body))
