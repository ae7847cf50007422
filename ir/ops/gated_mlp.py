"""`ffn.gated`: a gated linear unit."""

from __future__ import annotations

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, linear, register
from eulerc.ir.feed_forward import LEVEL_FIELDS, resolve_dense
from eulerc.ir.tensors import Init


@register
class GatedMLP(Definition):
    """`down(act(gate(x)) * up(x))` (Shazeer 2020, eq. 6)."""

    name = "ffn.gated"
    axis, yaml_type = "ffn", "gated_mlp"
    module_name = "mlp"
    implicit = {"bias": False}
    level_fields = LEVEL_FIELDS
    fields = LEVEL_FIELDS

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        attributes = resolve_dense(values, context, True, report)
        if attributes is None:
            return None
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return gated_tensors(hidden_size, op["intermediate_size"], op["bias"], std)

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(3 * hidden_size * op["intermediate_size"])

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        facts = {"mlp_bias": op["bias"], "takes_intermediate_size": False}
        return ClassBinding("gated_mlp", "GatedMLP", facts, base="MLP")


def gated_tensors(hidden_size: int, width: int, bias: bool, std: Init) -> tuple[LocalTensor, ...]:
    """Gate, up and down projections."""
    return (
        *linear("gate_proj", hidden_size, width, bias, std),
        *linear("up_proj", hidden_size, width, bias, std),
        *linear("down_proj", width, hidden_size, bias, std),
    )
