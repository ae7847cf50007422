"""`norm.layer`: layer norm."""

from __future__ import annotations

from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Definition, LocalTensor, register
from eulerc.ir.fields import Field, Flag
from eulerc.ir.norms import EPS
from eulerc.ir.tensors import Init


@register
class LayerNorm(Definition):
    """`(x - mean) / sqrt(var + eps) * weight + bias` (Ba et al. 2016, eq. 4)."""

    name = "norm.layer"
    axis, yaml_type = "norm", "layernorm"
    implicit = {"bias": True, "float32_weight": False}

    eps = Field(EPS, "Added to the variance.", None, "size", "layer_norm_eps", "norm_eps")
    bias = Field(Flag(), "A bias after the weight.", True)
    float32_weight = Field(
        Flag(), "Without bias: spelled out in float32 (Cohere) instead of torch's layer_norm.", False
    )

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        if values.get("float32_weight") and values.value("bias"):
            report.error(
                "E0331",
                "float32_weight on a LayerNorm with bias",
                values.where("float32_weight"),
                "for the bias-free form",
                help="set bias to false, or take float32_weight out",
            )
        attributes = {
            "eps": float(values.get("eps") or context.norm_eps(cls.name)),
            "bias": values.value("bias"),
            "float32_weight": values.value("float32_weight"),
        }
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        weight = LocalTensor("weight", (hidden_size,), Init("ones"))
        return (weight, LocalTensor("bias", (hidden_size,), Init("zeros"))) if op["bias"] else (weight,)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        if op["bias"]:
            return ClassBinding("torch", "nn.LayerNorm", {}, {})
        kind = "Float32LayerNorm" if op["float32_weight"] else "BiaslessLayerNorm"
        return ClassBinding("layer_norm", kind, {}, {})

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {"layer_norm_eps": op["eps"]}
