"""`norm.gated_rms`: root mean square norm with a gate of low rank."""

from __future__ import annotations

from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, linear, register
from eulerc.ir.fields import EPS, Field, Integer
from eulerc.ir.tensors import Init


@register
class GatedRMSNorm(Definition):
    """`y * sigmoid(up(silu(down(y))))` of `y = rmsnorm(x)` (A.X K2)."""

    name = "norm.gated_rms"
    axis, yaml_type = "norm", "gated_rmsnorm"
    pure = True

    eps = Field(EPS, "Added to the mean square.", None, "size", "rms_norm_eps", "norm_eps")
    rank = Field(Integer(maximum=2**20), "Width between the gate's two projections.", role="size", config="gate_rank")

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("norm_gate",)

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        eps = values.get("eps")
        attributes = {
            "eps": context.norm_eps("norm.rms") if eps is None else float(eps),
            "rank": values.get("rank"),
        }
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return (
            LocalTensor("weight", (hidden_size,), Init("ones")),
            *linear("gate_down_proj", hidden_size, op["rank"], False, std),
            *linear("gate_up_proj", op["rank"], hidden_size, False, std),
        )

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(2 * hidden_size * op["rank"])

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        return ClassBinding("rms_norm", "GatedRMSNorm")

    @classmethod
    def float32_binding(cls, op: Op) -> ClassBinding:
        return ClassBinding("stable_rms_norm", "StableGatedRMSNorm", base="GatedRMSNorm")

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {op.get("config", "rms_norm_eps"): op["eps"], "gate_rank": op["rank"]}
