"""`head_transform`: a projection, an activation and a norm before the vocabulary."""

from __future__ import annotations

from typing import Any

from eulerc.ir.activations import ACTIVATIONS
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, definition, linear, register
from eulerc.ir.fields import Block, Choice, Field, Flag
from eulerc.ir.norms import NORM_FIELDS, as_attribute, nested_norm
from eulerc.ir.tensors import Init


@register
class HeadTransform(Definition):
    """`norm(act(dense(x)))` before the vocabulary (Devlin et al. 2019)."""

    name = "head_transform"
    block = "transform"
    implicit = {"bias": False, "norm": None}

    activation = Field(
        Choice(meanings=dict.fromkeys(ACTIVATIONS, "as in transformers")), "Activation.", "gelu", "size", "head_act"
    )
    bias = Field(Flag(), "A bias on the projection.", False)
    norm = Field(Block(fields=NORM_FIELDS), "Norm after the activation; none if not set.", None)

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("head_transform",)

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        norm = nested_norm("norm", values, context, report) if values.get("norm") is not None else None
        attributes = {
            "activation": values.value("activation"),
            "bias": values.value("bias"),
            "norm": None if norm is None else as_attribute(norm),
        }
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        dense = linear("dense", hidden_size, hidden_size, op["bias"], std)
        if op["norm"] is None:
            return dense
        norm = Op(op["norm"]["norm"], attributes=op["norm"])
        inner = definition(norm.name).tensors(norm, hidden_size, std)
        return (*dense, *(LocalTensor(f"norm.{tensor.name}", tensor.shape, tensor.init) for tensor in inner))

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(hidden_size * hidden_size)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        norm = op["norm"]
        slots = {} if norm is None else {"head_norm": Op(norm["norm"], attributes=norm)}
        facts = {"head_bias": op["bias"], "head_norm": norm is not None}
        return ClassBinding("prediction_head", "PredictionHead", facts, slots)

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        fields: dict[str, Any] = {"head_act": op["activation"]}
        return fields if op["norm"] is None else {**fields, "head_norm_eps": op["norm"]["eps"]}
