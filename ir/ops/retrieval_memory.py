"""`memory.retrieval`: pairs of keys and values of earlier tokens, of which a token reads the best."""

from __future__ import annotations

from itertools import chain
from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, StateType
from eulerc.ir.definition import ClassBinding, Cost, LocalTensor, linear, register
from eulerc.ir.fields import Block, Field, Integer
from eulerc.ir.memories import Memory, kept_in_checkpoint
from eulerc.ir.recurrence import recurrent_state
from eulerc.ir.tensors import Init

SIZES: dict[str, Field] = {
    "hidden": Field(Integer(maximum=2**16), "Width of keys and values; 256 if not set.", None),
    "slots": Field(Integer(maximum=2**20), "Pairs that are held: those of as many tokens; 1024 if not set.", None),
    "top_k": Field(Integer(maximum=2**16), "Pairs that a token reads; 32 if not set, or all if there are fewer.", None),
}
HIDDEN, SLOTS, TOP_K = 256, 1024, 32
"""The sizes by default."""


@register
class RetrievalMemory(Memory):
    """The pairs of the last tokens, of which a token reads the best (Wu et al. 2022, Memorizing Transformers)."""

    name = "memory.retrieval"
    yaml_type = "retrieval"
    spelled = {**Memory.spelled, **{name: f"memory.params.{name}" for name in SIZES}}

    params = Field(Block(fields=SIZES), "How many pairs there are, and how wide.", None)

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        attributes = cls.shared_attributes(values, context, report)
        given = values.get("params") or {}
        slots = given.get("slots", SLOTS)
        top_k = given.get("top_k", min(TOP_K, slots))
        if top_k > slots:
            report.error(
                "E0875",
                f"a memory of {slots} pairs of which a token reads {top_k}",
                values.where("params.top_k"),
                "there are not so many",
                help=f"set top_k to {slots} or less, or slots to {top_k}",
            )
            return None
        attributes |= {"hidden": given.get("hidden", HIDDEN), "slots": slots, "top_k": top_k, "first_state": 0}
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def states(cls, op: Op) -> tuple[StateType, ...]:
        pairs = recurrent_state(op["slots"], op["hidden"])
        return (pairs, pairs)

    @classmethod
    def kept_shapes(cls, op: Op) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(("keys", "values"), (op["slots"], op["hidden"]))

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        width = op["hidden"]
        projections = (linear(f"{name}_proj", hidden_size, width, False, std) for name in "qkv")
        return (
            LocalTensor("initial_keys", (op["slots"], width), std),
            LocalTensor("initial_values", (op["slots"], width), std),
            *kept_in_checkpoint(op),
            *chain(*projections),
            *linear("o_proj", width, hidden_size, False, std),
        )

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        """A token meets twice the pairs that it reads: those that its block begins with, and those of the block."""
        projection, pairs = hidden_size * int(op["hidden"]), 2 * int(op["slots"]) * int(op["hidden"])
        return cls.work(op, Cost(2 * projection + pairs), Cost(4 * projection + pairs, masked=pairs))

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        init = {"initial_keys": "normal", "initial_values": "normal"}
        return ClassBinding("retrieval_memory", "RetrievalMemory", cls.shared_facts(op), init=init | cls.started(op))

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {
            "memory_hidden_size": int(op["hidden"]),
            "memory_slots": int(op["slots"]),
            "memory_top_k": int(op["top_k"]),
        }
