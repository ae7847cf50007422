"""layers -> layers: an indexer whose choice later layers share hands it on.

It stands after `simplify`, which takes unused templates out, and before classes are formed: a layer that hands its
choice on returns one value more.
"""

from __future__ import annotations

from attrs import evolve

from eulerc.ir.core import Block, Module, Op


def hand_on(module: Module) -> Module:
    """The module with `hands_on` set where some layer shares a choice of keys."""
    templates = module.all("template")
    if not any(op.get("indexer") == "shared" for template in templates for op in template.ops):
        return module
    ops = tuple(_marked(op) if op.name == "template" else op for op in module.model.ops)
    return evolve(module, model=evolve(module.model, body=Block(ops=ops)))


def _marked(template: Op) -> Op:
    assert template.body is not None
    ops = tuple(op.replacing(hands_on=True) if isinstance(op.get("indexer"), dict) else op for op in template.ops)
    return evolve(template, body=Block(template.body.arguments, ops))
