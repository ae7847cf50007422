"""`shape_change`: a projection that ends a layer and gives the stream behind it another width."""

from __future__ import annotations

from math import prod
from typing import Any

from attrs import evolve

from eulerc.ir.cache_kinds import CONV
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, StateType, TensorType
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, linear, register
from eulerc.ir.fields import Choice, Field, Integer
from eulerc.ir.memories import without_place
from eulerc.ir.tensors import Init

CLASSES = {"linear": "LinearShapeChange", "mlp": "MLPShapeChange", "conv1d": "ConvShapeChange"}

KERNEL = 3
"""Tokens that a convolution sees where nothing else is said."""


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
                "conv1d": "a causal convolution: a matrix for each of the last `kernel` tokens",
            }
        ),
        "How it is projected; none has biases.",
        "linear",
    )
    kernel = Field(
        Integer(2, 64),
        "With `conv1d`: tokens that it sees, the newest included; 3 if not set.",
        None,
        "size",
        "shape_change_kernel",
    )
    spelled = {"channels": "model.d_model"}
    implicit = {"kernel": None, "channels": None, "first_state": 0}

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        projection, kernel = values.value("projection"), values.get("kernel")
        if kernel is not None and projection != "conv1d":
            report.error(
                "E0889",
                f"kernel of a projection by {projection}",
                values.where("kernel"),
                "it sees the token alone",
                secondary=((values.where("projection"), "set here"),) if "projection" in values else (),
                help="set `projection: conv1d`, or take kernel out",
            )
        attributes = {"d_out": values.get("d_out"), "projection": projection, **cls.implicit}
        if projection == "conv1d":
            attributes |= {"kernel": kernel or KERNEL, "channels": context.d_model}
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        (stream,) = operands
        return (evolve(stream, dims=(*stream.dims[:-1], op["d_out"])),)

    @classmethod
    def carries(cls, op: Op) -> tuple[StateType, ...]:
        kernel = cls.option(op, "kernel")
        return () if kernel is None else (StateType(CONV, ("b", op["channels"], kernel)),)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        width, kernel = op["d_out"], cls.option(op, "kernel")
        if kernel is not None:
            return (LocalTensor("weight", (width, hidden_size, kernel), std),)
        if op["projection"] == "linear":
            return (LocalTensor("weight", (width, hidden_size), std),)
        return (*linear("up_proj", hidden_size, width, False, std), *linear("down_proj", width, width, False, std))

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        inner = op["d_out"] if op["projection"] == "mlp" else 0
        streams = prod(int(extent) for operand in op.operands for extent in operand.type.dims[2:-1])
        tokens = cls.option(op, "kernel") or 1
        return Cost(linear=streams * (tokens * hidden_size + inner) * op["d_out"])

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("stream_width",) if cls.option(op, "kernel") is None else ("stream_width", "recurrent")

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        name = CLASSES[op["projection"]]
        if cls.option(op, "kernel") is None:
            return ClassBinding("shape_change", name)
        return ClassBinding("conv_shape_change", name, init={"weight": "normal"})

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        fields = {"output_size": int(op["d_out"])}
        kernel = cls.option(op, "kernel")
        if kernel is None:
            return fields
        return fields | {"shape_change_kernel": int(kernel), "shape_change_state": int(cls.option(op, "first_state"))}


def check_change(change: Op, mixer: Op, report: Report) -> None:
    """A convolution keeps the last inputs in the cache of its layer."""
    if ShapeChange.option(change, "kernel") is None:
        return
    for what, span in without_place(mixer):
        report.error(
            "E0889",
            f"a convolution behind attention that {what}",
            change.where("projection"),
            "the cache of such a layer has no place for its inputs",
            secondary=((span, "set here"),),
            help="choose linear or mlp, or end another layer with it",
        )
