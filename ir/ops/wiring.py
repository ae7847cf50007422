"""Wiring: the ops between modules, and the ops that hold a model together."""

from __future__ import annotations

from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, TensorType
from eulerc.ir.definition import Definition, LocalTensor, register
from eulerc.ir.fields import Choice, Field, Flag, Number
from eulerc.ir.tensors import Init

GRAPH = frozenset({"layers", "module"})
EVERYWHERE = frozenset({"arch", "layers", "module"})


PARALLEL = {
    "shared_norm": "only parallel sublayers share a norm",
    "sum": "only parallel sublayers are added together",
}
"""Keys that concern parallel sublayers, with the reason."""


@register
class Wiring(Definition):
    """How a template's sublayers are joined: where norms stand and what is added to the residual stream."""

    name = "wiring"
    stages = frozenset({"arch"})
    implicit = {
        "position": "pre",
        "residual": "sequential",
        "shared_norm": True,
        "sum": "stream_first",
        "scaling": 1.0,
        "dropout": 0.0,
    }

    position = Field(
        Choice(
            meanings={
                "pre": "before each sublayer",
                "post": "after each residual addition (the original transformer)",
                "sandwich": "before each sublayer and on its output (Gemma 2)",
                "output": "on each sublayer's output, before the addition (OLMo 2)",
            }
        ),
        "Where norms stand.",
        "pre",
    )
    residual = Field(
        Choice(
            meanings={
                "sequential": "mixer, then feed-forward, each added to the stream",
                "parallel": "mixer and feed-forward read the same stream and are added together",
            }
        ),
        "How sublayers follow each other.",
        "sequential",
    )
    shared_norm = Field(Flag(), "Parallel: one norm feeds both sublayers.", True)
    sum = Field(
        Choice(
            meanings={
                "stream_first": "(stream + mixer) + feed-forward (Cohere)",
                "sublayers_first": "(mixer + feed-forward) + stream (Phi, GPT-NeoX)",
            }
        ),
        "Parallel: the order of the two additions, which rounding tells apart in 16 bits.",
        "stream_first",
    )
    scaling = Field(Number(), "Factor on each sublayer's output.", 1.0, "size", "residual_multiplier")
    dropout = Field(Number(0, 1), "Dropout on each sublayer's output.", 0.0, "train", "hidden_dropout")

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        attributes = values.resolved(context)
        for key, why in PARALLEL.items():
            if attributes["residual"] == "sequential" and key in values:
                report.error(
                    "E0332",
                    f"{key} on a sequential residual",
                    values.where(key),
                    why,
                    help=f"set `type: parallel`, or take {key} out",
                )
        if attributes["position"] == "output" and "shared_norm" in values:
            report.error(
                "E0332",
                "shared_norm without norms before the sublayers",
                values.where("shared_norm"),
                "norms stand on the outputs only",
                help="take shared_norm out",
            )
        if attributes["residual"] == "parallel" and attributes["position"] == "post":
            report.error(
                "E0333",
                "norm position post with a parallel residual",
                values.where("position"),
                "no addition to stand after",
                help="use position pre, sandwich or output",
            )
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)


@register
class Embed(Definition):
    """Token embedding: `[b, t]` ids to `[b, t, d]`."""

    name = "embed"
    stages = GRAPH
    module_name = "embed_tokens"

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return (TensorType((*operands[0].dims, op["width"])),)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return (LocalTensor("weight", (op["vocab_size"], op["width"]), std),)

    @classmethod
    def active(cls, op: Op, name: str, numel: int) -> int:
        return 0


@register
class EmbedPositions(Embed):
    """Learned absolute positions, added to the stream; row `position + offset` of the table."""

    name = "embed_positions"
    module_name = "embed_positions"

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return operands[:1]

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return (LocalTensor("weight", (op["length"] + op["offset"], op["width"]), std),)


@register
class Unembed(Definition):
    """Projection of the stream onto the vocabulary."""

    name = "unembed"
    stages = GRAPH
    module_name = "lm_head"
    implicit = {"bias": False}

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return (TensorType((*operands[0].dims[:-1], op["vocab_size"])),)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        weight = LocalTensor("weight", (op["vocab_size"], hidden_size), std)
        return (weight, LocalTensor("bias", (op["vocab_size"],), Init("zeros"))) if op["bias"] else (weight,)


class _Elementwise(Definition):
    stages = GRAPH


@register
class Add(_Elementwise):
    """Sum of two values of one type."""

    name = "add"
    pure = True


@register
class Scale(_Elementwise):
    """A value times a constant; `round` rounds the constant to the value's dtype first."""

    name = "scale"
    pure = True


@register
class Softcap(_Elementwise):
    """`cap * tanh(x / cap)`."""

    name = "softcap"
    pure = True


@register
class Dropout(_Elementwise):
    """Dropout in training."""

    name = "dropout"


@register
class Stack(_Elementwise):
    """The layers, one after the other, by the names of their templates."""

    name = "stack"


@register
class Yield(Definition):
    """The results of a block."""

    name = "yield"
    stages = EVERYWHERE

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return ()


IMPLICIT: dict[str, dict[str, Any]] = {
    "spec": {"family_hint": None, "target_params": None},
    "embedding": {"position_offset": 0, "scale": None, "scale_rounding": "none", "dropout": 0.0},
    "class": {"init": {}},
    "head": {"bias": False, "logit_softcap": None, "logit_scale": None},
    "rope": {"partial": 1.0, "interleaved": False, "precision": "model", "scaling": None},
}


def _holder(op_name: str, where: frozenset[str], doc: str) -> None:
    """An op that holds attributes or a body, without a value."""
    bases = (Definition,)
    members: dict[str, Any] = {
        "name": op_name,
        "stages": where,
        "__doc__": doc,
        "implicit": IMPLICIT.get(op_name, {}),
        "result_types": classmethod(lambda cls, op, operands: ()),
        "__module__": __name__,
    }
    register(type(op_name.title().replace("_", ""), bases, members))


for _name, _stages, _doc in (
    ("spec", EVERYWHERE, "The model-wide values that are not sizes of one op."),
    ("tokenizer", EVERYWHERE, "The tokenizer contract."),
    ("hints", EVERYWHERE, "Training hints."),
    ("expect", EVERYWHERE, "Budgets that lint checks."),
    ("meta", EVERYWHERE, "Where the numbers of a spec come from."),
    ("extensions", EVERYWHERE, "Keys for plugins, handed on."),
    ("embedding", frozenset({"arch"}), "The embedding block."),
    ("head", frozenset({"arch"}), "The head block."),
    ("schedule", frozenset({"arch"}), "The templates of all layers, in order."),
    ("template", EVERYWHERE, "A layer: parts at stage arch, a graph after."),
    ("graph", GRAPH, "From token ids to logits."),
    ("rope", GRAPH, "A rotary table that layers share."),
    ("class", frozenset({"module"}), "A class of the generated file."),
    ("layer", frozenset({"module"}), "A layer class and the templates it stands for."),
    ("config", frozenset({"module"}), "The fields of config.json."),
):
    _holder(_name, _stages, _doc)
