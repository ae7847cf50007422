"""layers -> layers: fold what changes nothing, merge what is computed twice, drop what is not used.

It stands right after `expand`, which writes wiring without looking for savings, and before anything is named or
counted. A parallel block's two equal norms become one; multiplications by 1 and dropouts of 0 go; templates that no
layer uses go.
"""

from __future__ import annotations

from attrs import evolve

from eulerc.ir.core import Block, Module, Op, Value
from eulerc.ir.definition import definition
from eulerc.ir.layering import layered
from eulerc.ir.prediction import blocks_of


def simplify(module: Module) -> Module:
    """The module without redundant ops and unused templates."""
    used = {name for op in layered(module.one("graph")) for name in op["schedule"]}
    used |= {str(blocks_of(op)["template"]) for op in module.all("mtp")}
    ops = []
    for op in module.model.ops:
        if op.name == "template" and op.symbol not in used:
            continue
        ops.append(evolve(op, body=_block(op.body)) if op.name in ("template", "graph") and op.body else op)
    return evolve(module, model=evolve(module.model, body=Block(ops=tuple(ops))))


def _block(block: Block) -> Block:
    return _without_dead(_without_repeats(_without_identities(block)))


def _without_identities(block: Block) -> Block:
    """Takes out dropouts of 0 and factors of 1."""
    replaced: dict[str, Value] = {}
    kept = []
    for op in block.ops:
        operands = tuple(replaced.get(operand.name, operand) for operand in op.operands)
        if (op.name == "dropout" and op["p"] == 0) or (op.name == "scale" and op["by"] == 1):
            replaced[op.results[0].name] = operands[0]
        else:
            kept.append(evolve(op, operands=operands))
    return Block(block.arguments, tuple(kept))


def _without_repeats(block: Block) -> Block:
    """Common-subexpression elimination."""
    replaced: dict[str, Value] = {}
    kept: list[Op] = []
    for op in block.ops:
        op = evolve(op, operands=tuple(replaced.get(operand.name, operand) for operand in op.operands))
        twin = next((other for other in kept if definition(op.name).pure and _same(op, other)), None)
        if twin is None:
            kept.append(op)
        else:
            replaced[op.results[0].name] = twin.results[0]
    return Block(block.arguments, tuple(kept))


def _same(op: Op, other: Op) -> bool:
    return op.name == other.name and op.operands == other.operands and op.attributes == other.attributes


def _without_dead(block: Block) -> Block:
    """Dead-code elimination, from the yield up."""
    live: set[str] = set()
    kept = []
    for op in reversed(block.ops):
        if op.name == "yield" or any(result.name in live for result in op.results):
            live.update(operand.name for operand in op.operands)
            kept.append(op)
    return Block(block.arguments, tuple(reversed(kept)))
