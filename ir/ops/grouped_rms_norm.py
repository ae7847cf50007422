"""`norm.grouped_rms`: root mean square norm of groups of channels."""

from __future__ import annotations

from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Definition, LocalTensor, register
from eulerc.ir.divisors import nearest_divisor
from eulerc.ir.fields import EPS, Field, Integer
from eulerc.ir.tensors import Init


@register
class GroupedRMSNorm(Definition):
    """RMSNorm of each of several groups of channels by itself, with one weight a channel."""

    name = "norm.grouped_rms"
    axis, yaml_type = "norm", "grouped_rmsnorm"
    pure = True

    eps = Field(EPS, "Added to the mean square.", None, "size", "rms_norm_eps", "norm_eps")
    groups = Field(Integer(2, 2**20), "Groups of neighbouring channels.", role="size", config="norm_groups")

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("norm_groups",)

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        eps, groups, width = values.get("eps"), values.get("groups"), context.d_model
        if width % groups:
            report.error(
                "E0457",
                f"d_model {int(width)} cannot be split into {groups} groups",
                values.where("groups"),
                f"{int(width)} is not a multiple of {groups}",
                secondary=((context.model.where("d_model"), "d_model, set here"),),
                help=f"set groups to {nearest_divisor(int(width), groups)}",
            )
            return None
        attributes = {"eps": context.norm_eps("norm.rms") if eps is None else float(eps), "groups": groups}
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return (LocalTensor("weight", (hidden_size,), Init("ones")),)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        return ClassBinding("rms_norm", "GroupedRMSNorm")

    @classmethod
    def float32_binding(cls, op: Op) -> ClassBinding:
        return ClassBinding("stable_rms_norm", "StableGroupedRMSNorm", base="GroupedRMSNorm")

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {op.get("config", "rms_norm_eps"): op["eps"], "norm_groups": op["groups"]}
