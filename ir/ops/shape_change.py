"""`shape_change`: a projection that ends a layer and gives the stream behind it another width."""

from __future__ import annotations

from math import prod
from typing import Any

from attrs import evolve

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, TensorType
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, linear, register
from eulerc.ir.fields import Choice, Field, Integer
from eulerc.ir.tensors import Init

CLASSES = {"linear": "LinearShapeChange", "mlp": "MLPShapeChange"}


@register
class ShapeChange(Definition):
    """The stream of another width: what a layer has made of it, projected."""

    name = "shape_change"
    block = "shape_change"

    d_out = Field(Integer(maximum=2**24), "Width of the stream behind the layer.", role="size", config="output_size")
    projection = Field(
        Choice(
            meanings={
                "linear": "one matrix",
                "mlp": "two matrices with SiLU between them, the inner width being `d_out`",
            }
        ),
        "How it is projected; neither has biases.",
        "linear",
    )

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        attributes = {"d_out": values.get("d_out"), "projection": values.value("projection")}
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        (stream,) = operands
        return (evolve(stream, dims=(*stream.dims[:-1], op["d_out"])),)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        width = op["d_out"]
        if op["projection"] == "linear":
            return (LocalTensor("weight", (width, hidden_size), std),)
        return (*linear("up_proj", hidden_size, width, False, std), *linear("down_proj", width, width, False, std))

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        inner = op["d_out"] if op["projection"] == "mlp" else 0
        streams = prod(int(extent) for operand in op.operands for extent in operand.type.dims[2:-1])
        return Cost(linear=streams * (hidden_size + inner) * op["d_out"])

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("stream_width",)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        return ClassBinding("shape_change", CLASSES[op["projection"]])

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {"output_size": int(op["d_out"])}
