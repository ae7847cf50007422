"""`norm.layer`: layer norm."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Definition, LocalTensor, register
from eulerc.ir.fields import EPS, Field, Flag
from eulerc.ir.ops.rms_norm import refuse_without_weight
from eulerc.ir.tensors import Init


@register
class LayerNorm(Definition):
    """`(x - mean) / sqrt(var + eps) * weight + bias` (Ba et al. 2016, eq. 4)."""

    name = "norm.layer"
    portable = True
    axis, yaml_type = "norm", "layernorm"
    pure = True
    implicit = {"bias": True, "float32_weight": False, "weight": True, "unit_offset": False}

    eps = Field(EPS, "Added to the variance.", None, "size", "layer_norm_eps", "norm_eps")
    weight = Field(
        Flag(), "A weight for each channel; without one the norm has no parameters and is computed in float32.", True
    )
    unit_offset = Field(Flag(), "Store the weight as its difference from 1 (Nemotron); with a bias.", False)
    bias = Field(Flag(), "A bias after the weight; true unless there is no weight.", True)
    float32_weight = Field(
        Flag(), "Without bias: spelled out in float32 (Cohere) instead of torch's layer_norm.", False
    )

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        weight = bool(values.value("weight"))
        bias = bool(values.value("bias")) and (weight or "bias" in values)
        if values.get("float32_weight") and bias:
            report.error(
                "E0331",
                "float32_weight on a LayerNorm with bias",
                values.where("float32_weight"),
                "for the bias-free form",
                help="set bias to false, or take float32_weight out",
            )
        if values.get("unit_offset") and weight and not bias:
            report.error(
                "E0441",
                "unit_offset on a LayerNorm without bias",
                values.where("unit_offset"),
                "for the form with a bias",
                help="set bias to true, or take unit_offset out",
            )
        refuse_without_weight(("bias", "unit_offset", "float32_weight"), values, report)
        attributes = {
            "eps": float(values.get("eps") or context.norm_eps(cls.name)),
            "weight": weight,
            "unit_offset": values.value("unit_offset"),
            "bias": bias,
            "float32_weight": values.value("float32_weight"),
        }
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        if not cls.option(op, "weight"):
            return ()
        start = Init("zeros" if cls.option(op, "unit_offset") else "ones")
        weight = LocalTensor("weight", (hidden_size,), start)
        return (weight, LocalTensor("bias", (hidden_size,), Init("zeros"))) if cls.option(op, "bias") else (weight,)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        if not cls.option(op, "weight"):
            return ClassBinding("layer_norm", "UnweightedLayerNorm", base="LayerNorm")
        if cls.option(op, "unit_offset"):
            return ClassBinding("layer_norm", "UnitOffsetLayerNorm", base="LayerNorm", init={"weight": "zeros"})
        if cls.option(op, "bias"):
            return ClassBinding("torch", "nn.LayerNorm")
        kind = "Float32LayerNorm" if cls.option(op, "float32_weight") else "BiaslessLayerNorm"
        return ClassBinding("layer_norm", kind, base="LayerNorm", init={"weight": "ones"})

    @classmethod
    def float32_binding(cls, op: Op) -> ClassBinding:
        binding = cls.binding(op)
        kinds = {"nn.LayerNorm": "StableLayerNorm", "BiaslessLayerNorm": "StableBiaslessLayerNorm"}
        kinds |= {"UnitOffsetLayerNorm": "StableUnitOffsetLayerNorm"}
        kind = kinds.get(binding.definition, binding.definition)
        return evolve(binding, component="layer_norm", definition=kind, base="LayerNorm")

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {op.get("config", "layer_norm_eps"): op["eps"]}
