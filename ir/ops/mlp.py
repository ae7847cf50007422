"""`ffn.mlp`: two projections with an activation between them."""

from __future__ import annotations

from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, register
from eulerc.ir.feed_forward import (
    INNER_NORM,
    LEVEL_FIELDS,
    UNSHAPED,
    dense_config,
    dense_tensors,
    plain_binding,
    resolve_dense,
)
from eulerc.ir.tensors import Init


@register
class MLP(Definition):
    """`down(act(up(x)))` (Vaswani et al. 2017, eq. 2)."""

    name = "ffn.mlp"
    portable = True
    axis, yaml_type = "ffn", "mlp"
    module_name = "mlp"
    implicit = {"bias": False, "inner_norm": None}
    fields = {**LEVEL_FIELDS, **INNER_NORM}
    level_fields = fields

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        attributes = resolve_dense(values, context, False, report)
        if attributes is None:
            return None
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return dense_tensors(op.attributes, hidden_size, op["intermediate_size"], False, std)

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(2 * hidden_size * op["intermediate_size"])

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        return plain_binding(op.attributes)

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {"intermediate_size": op["intermediate_size"], **dense_config({**UNSHAPED, **op.attributes})}
