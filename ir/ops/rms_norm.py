"""`norm.rms`: root mean square norm."""

from __future__ import annotations

from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Definition, LocalTensor, register
from eulerc.ir.fields import EPS, Field, Flag
from eulerc.ir.tensors import Init


@register
class RMSNorm(Definition):
    """`x / sqrt(mean(x^2) + eps) * weight` (Zhang & Sennrich 2019, eq. 4)."""

    name = "norm.rms"
    portable = True
    axis, yaml_type = "norm", "rmsnorm"
    pure = True
    implicit = {"unit_offset": False, "float32_weight": False, "weight": True}

    eps = Field(EPS, "Added to the mean square.", None, "size", "rms_norm_eps", "norm_eps")
    weight = Field(Flag(), "A weight for each channel; without one the norm has no parameters (nanochat).", True)
    unit_offset = Field(Flag(), "Store the weight as its difference from 1 (Gemma); implies float32.", False)
    float32_weight = Field(Flag(), "Multiply by the weight in float32, before rounding (OLMo 2).", False)

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        if values.get("unit_offset") and values.get("float32_weight") is False and "float32_weight" in values:
            report.error(
                "E0330",
                "unit_offset multiplies in float32",
                values.where("float32_weight"),
                "cannot be false here",
                help="take float32_weight out",
            )
        refuse_without_weight(("unit_offset", "float32_weight"), values, report)
        if context.float32_norms:
            refuse_under_policy("float32_weight", False, values, context, report)
        attributes = {
            "eps": float(values.get("eps") or context.norm_eps(cls.name)),
            "weight": values.value("weight"),
            "unit_offset": values.value("unit_offset"),
            "float32_weight": values.value("float32_weight") and not values.value("unit_offset"),
        }
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        if not cls.option(op, "weight"):
            return ()
        return (LocalTensor("weight", (hidden_size,), Init("zeros" if cls.option(op, "unit_offset") else "ones")),)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        if not cls.option(op, "weight"):
            return ClassBinding("rms_norm", "UnweightedRMSNorm", base="RMSNorm")
        if cls.option(op, "unit_offset"):
            return ClassBinding("rms_norm", "UnitOffsetRMSNorm", base="RMSNorm", init={"weight": "zeros"})
        return ClassBinding(
            "rms_norm", "Float32RMSNorm" if cls.option(op, "float32_weight") else "RMSNorm", base="RMSNorm"
        )

    @classmethod
    def float32_binding(cls, op: Op) -> ClassBinding:
        return cls.binding(op.replacing(float32_weight=True))

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {op.get("config", "rms_norm_eps"): op["eps"]}


def refuse_under_policy(key: str, refused: Any, values: Values, context: ModelContext, report: Report) -> None:
    """A key may not undo what the model's policy is for."""
    policy = "layered_safe" if context.layered_safe else "norms_float32"
    if key in values and values.get(key) == refused:
        report.error(
            "E0768",
            f"{key} {str(refused).lower()} under the policy {policy}",
            values.where(key),
            "the policy has it in float32",
            help=f"take {key} out, or set compatibility.dtype_policy to uniform",
        )


def refuse_without_weight(keys: tuple[str, ...], values: Values, report: Report) -> None:
    """What a norm without a weight cannot have."""
    for key in keys:
        if values.value("weight") is False and values.get(key):
            report.error(
                "E0440",
                f"{key} on a norm without a weight",
                values.where(key),
                "there is no weight for it",
                secondary=((values.where("weight"), "no weight, set here"),),
                help=f"take {key} out, or set weight to true",
            )
