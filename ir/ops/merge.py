"""`parallel` and `merge`: streams of layers beside each other, and what becomes of them behind their last layers."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve

from eulerc.ir.attending import attention_config, attention_facts, attention_slots
from eulerc.ir.core import Op, TensorType
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, register
from eulerc.ir.fields import Choice, Entries, Field, Flag, Text
from eulerc.ir.ops.attention import Attention
from eulerc.ir.tensors import Init

STREAM: dict[str, Field] = {
    "stream": Field(Text(maximum=64), "Name of the stream."),
    "body": Field(Entries(), "Its layers: entries with template, pattern or loop."),
}
"""The keys of a stream in `parallel`."""

MERGE: dict[str, Field] = {
    "type": Field(
        Choice(
            meanings={
                "concat": "side by side",
                "add": "their sum",
                "gated": "a sum weighed by a softmax, for each token, of what the streams have read",
                "cross_attn": "stream `to`, whose tokens attend to those of stream `from`",
            }
        ),
        "What becomes of the streams behind their last layers.",
        "concat",
    ),
    "projection": Field(
        Flag(),
        "`concat`: a matrix makes the stream as wide as before; without it, it is as wide as all of them.",
        True,
    ),
    "from": Field(Text(maximum=64), "`cross_attn`: the stream that gives keys and values; the first if not set.", None),
    "to": Field(Text(maximum=64), "`cross_attn`: the stream that asks and goes on; the last if not set.", None),
}
"""The keys of `merge`."""

KEYS_OF = {"projection": "concat", "from": "cross_attn", "to": "cross_attn"}
"""Keys of one kind of merge, and which."""


@register
class Merge(Definition):
    """One stream of several: operands are the streams, of a gated merge what they have read before them.

    `projected` is the width that a projection gives what stands side by side; None without one.
    """

    name = "merge"
    title = "merged streams"
    stages = frozenset({"layers", "module"})
    implicit = {"projected": None}

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        if op["kind"] != "concat":
            return operands[:1]
        width = op["projected"] or sum(int(operand.dims[-1]) for operand in operands)
        return (evolve(operands[0], dims=(*operands[0].dims[:-1], width)),)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        shape = merge_shape(op)
        return (
            () if shape == (0, 0) else (LocalTensor("proj.weight" if op["kind"] == "gated" else "weight", shape, std),)
        )

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        outputs, inputs = merge_shape(op)
        return Cost(outputs * inputs)

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("streams",)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding | None:
        if op["kind"] == "gated":
            return ClassBinding("stream_gate", "StreamGate")
        return None if op["projected"] is None else ClassBinding("torch", "nn.Linear")


def merge_shape(op: Op) -> tuple[int, int]:
    """Outputs and inputs of the merge's matrix; 0 without one."""
    widths = [int(operand.type.dims[-1]) for operand in op.operands]
    if op["kind"] == "gated":
        return len(widths) - 1, widths[0]
    return (0, 0) if op["projected"] is None else (int(op["projected"]), sum(widths))


@register
class Cross(Definition):
    """A layer on two streams: the first asks and goes on, the second gives keys and values."""

    name = "cross"
    stages = frozenset({"layers", "module"})
    implicit = {"modules": None}

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("streams",)


@register
class CrossAttention(Attention):
    """Attention of one stream to another one of the same tokens: each sees the other's up to its own place."""

    name = "mixer.cross_attention"
    title = "cross attention"
    yaml_type: ClassVar[str | None] = None  # type: ignore[assignment]
    module_name = "cross_attn"

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("streams",)

    @classmethod
    def offers(cls, op: Op) -> tuple[Any, ...]:
        return ()

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        facts = {name: attention_facts(op)[name] for name in ("rope", "partial_rotary")}
        return ClassBinding("cross_attention", "CrossAttention", facts, attention_slots(op))

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return attention_config(cls, op)
