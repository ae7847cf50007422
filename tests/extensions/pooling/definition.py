"""`mixer.pooling`: a mean of the past in which each token says itself how much it counts."""

from __future__ import annotations

from typing import Any

from eulerc.ir.attending import PLAIN_EAGER
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, StateType
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, linear, register
from eulerc.ir.fields import Field, Flag, Integer, Number
from eulerc.ir.tensors import Init


@register
class Pooling(Definition):
    """A softmax over the past of scores that tokens give themselves, head by head: attention without queries."""

    name = "mixer.pooling"
    axis, yaml_type, block = "mixer", "pooling", "pooling"
    module_name = "self_attn"
    implicit = {"sharpness": 1.0, "gate": False}

    heads = Field(Integer(maximum=4096), "Heads.", None, "size", "pooling_heads", inherit="n_heads")
    sharpness = Field(Number(0, exclusive=True), "Factor on the scores.", 1.0, "size", "pooling_sharpness")
    gate = Field(Flag(), "A gate on the result, from the token itself.", False)

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        heads, width = values.or_inherited("heads", context), int(context.d_model)
        if width % heads:
            report.error(
                "E0311",
                f"{heads} heads in a width of {width}",
                values.origin("heads", context),
                "not a divisor",
                help=f"heads can be {', '.join(str(n) for n in range(1, width + 1) if width % n == 0)}",
            )
            return None
        attributes = {**values.resolved(context), "head_dim": width // heads}
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("attention", "value_width")

    @classmethod
    def carries(cls, op: Op) -> tuple[StateType, ...]:
        return (
            StateType("scores", ("b", op["heads"], "t", 1)),
            StateType("values", ("b", op["heads"], "t", op["head_dim"])),
        )

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return (
            *linear("score_proj", hidden_size, op["heads"], False, std),
            *linear("v_proj", hidden_size, hidden_size, False, std),
            *(linear("gate_proj", hidden_size, hidden_size, False, std) if op["gate"] else ()),
            *linear("o_proj", hidden_size, hidden_size, False, std),
        )

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        projections = hidden_size * (op["heads"] + (3 if op["gate"] else 2) * hidden_size)
        return Cost(linear=projections, attention=op["heads"] * (1 + op["head_dim"]))

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        facts, slots = {"pooling_gate": op["gate"]}, {"eager": PLAIN_EAGER}
        return ClassBinding("pooling", "PoolingAttention", facts, slots)

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {"pooling_heads": op["heads"], "pooling_sharpness": op["sharpness"]}
