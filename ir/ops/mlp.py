"""`ffn.mlp`: two projections with an activation between them."""

from __future__ import annotations

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, linear, register
from eulerc.ir.feed_forward import LEVEL_FIELDS, resolve_dense
from eulerc.ir.tensors import Init


@register
class MLP(Definition):
    """`down(act(up(x)))` (Vaswani et al. 2017, eq. 2)."""

    name = "ffn.mlp"
    axis, yaml_type = "ffn", "mlp"
    module_name = "mlp"
    implicit = {"bias": False}
    level_fields = LEVEL_FIELDS
    fields = LEVEL_FIELDS

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        attributes = resolve_dense(values, context, False, report)
        if attributes is None:
            return None
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        width, bias = op["intermediate_size"], op["bias"]
        return (*linear("up_proj", hidden_size, width, bias, std), *linear("down_proj", width, hidden_size, bias, std))

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(2 * hidden_size * op["intermediate_size"])

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        return ClassBinding("mlp", "MLP", {"mlp_bias": op["bias"]}, {})
