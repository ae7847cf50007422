"""Per-layer embeddings: a table of tokens for every layer, and what a layer does with its own (Gemma 3n, Gemma 4)."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from eulerc.ir.activations import ACTIVATIONS
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, definition, linear, register
from eulerc.ir.fields import Block, Choice, Field, Integer
from eulerc.ir.norms import NORM_FIELDS, as_attribute, nested_norm
from eulerc.ir.tensors import Init

NO_NORM: dict[str, Any] = {}


def _norm_tensors(op: Op, width: int, std: Init) -> tuple[LocalTensor, ...]:
    norm = Op(op["norm"]["norm"], attributes=op["norm"])
    tensors = definition(norm.name).tensors(norm, width, std)
    return tuple(evolve(tensor, name=f"norm.{tensor.name}") for tensor in tensors)


def _norm_slot(op: Op) -> dict[str, Any]:
    return {"PerLayerNorm": Op(op["norm"]["norm"], attributes=op["norm"])}


@register
class PerLayerInput(Definition):
    """A layer's last step: its own embedding of each token, gated by the stream, projected, normed, to be added."""

    name = "per_layer_input"
    block = "per_layer"

    width = Field(
        Integer(maximum=2**20), "Width of a token's embedding for a layer.", role="size", config="per_layer_size"
    )
    activation = Field(
        Choice(meanings=dict.fromkeys(ACTIVATIONS, "as in transformers")),
        "Activation of the gate.",
        "gelu_pytorch_tanh",
        "size",
        "per_layer_act",
    )
    norm = Field(Block(fields=NORM_FIELDS), "The norms of these steps; RMSNorm where nothing is set.", NO_NORM)

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        given = values if "norm" in values else evolve(values, given={**values.given, "norm": {}})
        norm = nested_norm("norm", given, context, report)
        if norm is None:
            return None
        attributes = {
            "width": values.get("width"),
            "activation": values.value("activation"),
            "norm": as_attribute(norm),
        }
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        gate = linear("gate_proj", hidden_size, op["width"], False, std)
        return (*gate, *linear("out_proj", op["width"], hidden_size, False, std), *_norm_tensors(op, hidden_size, std))

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(linear=2 * hidden_size * op["width"])

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("per_layer_input",)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        return ClassBinding("per_layer_input", "PerLayerInput", slots=_norm_slot(op))

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {
            "per_layer_size": int(op["width"]),
            "per_layer_act": op["activation"],
            "per_layer_norm_eps": op["norm"]["eps"],
        }


@register
class PerLayerEmbedding(Definition):
    """The embeddings of all layers: rows of a table and a projection of the stream. The stream goes on as it is."""

    name = "per_layer_embedding"
    stages = frozenset({"layers", "module"})

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        width = op["layers"] * op["width"]
        table = LocalTensor("embed_tokens.weight", (op["vocab_size"], width), std)
        return (table, *linear("proj", hidden_size, width, False, std), *_norm_tensors(op, op["width"], std))

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(linear=hidden_size * op["layers"] * op["width"])

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("per_layer_input",)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        return ClassBinding("per_layer_embedding", "PerLayerEmbedding", slots=_norm_slot(op))

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {"per_layer_size": int(op["width"]), "per_layer_norm_eps": op["norm"]["eps"]}
