"""The modules that predict further tokens: where they stand, what is in them, what their tensors are called."""

from __future__ import annotations

from collections.abc import Iterator

from eulerc.ir.core import Module, Op
from eulerc.ir.definition import definition

NORMS = ("enorm", "hnorm", "post_norm")
"""The norms of a module: on the embedding, on the states before, on what comes out."""


def prediction(module: Module) -> Op | None:
    """The `mtp` op; None in a model that predicts the next token only."""
    return next(iter(module.all("mtp")), None)


def blocks_of(mtp: Op) -> Op:
    """The layers of one module."""
    return next(op for op in mtp.ops if op.name == "mtp.blocks")


def predicting_template(module: Module) -> Op | None:
    """The template of the modules' layers."""
    mtp = prediction(module)
    if mtp is None:
        return None
    name = str(blocks_of(mtp)["template"])
    return next(op for op in module.all("template") if op.symbol == name)


def placed_ops(module: Module) -> Iterator[tuple[str, Op]]:
    """Every op of the prediction modules that has a module of its own, by its path."""
    mtp, template = prediction(module), predicting_template(module)
    if mtp is None or template is None:
        return
    for index in range(mtp["depth"]):
        for op in mtp.ops:
            if op.name == "mtp.blocks":
                for path in block_paths(op):
                    inner = ((f"{path}.{part['module']}", part) for part in template.ops if part.get("module"))
                    yield from ((f"mtp.layers.{index}.{place}", part) for place, part in inner)
            elif op.get("module") is not None:
                yield f"mtp.layers.{index}.{op['module']}", op


def block_paths(blocks: Op) -> list[str]:
    """Where the layers of one module stand within it."""
    return ["mtp_block"] if blocks["repeat"] == 1 else [f"mtp_block.{index}" for index in range(blocks["repeat"])]


def working_ops(module: Module) -> list[Op]:
    """The ops that one module runs, one by one."""
    mtp, template = prediction(module), predicting_template(module)
    if mtp is None or template is None:
        return []
    repeats = blocks_of(mtp)["repeat"]
    return [*(op for op in mtp.ops if op.name != "mtp.blocks"), *(op for op in template.ops for _ in range(repeats))]


def is_norm(op: Op) -> bool:
    return definition(op.name).axis == "norm"
