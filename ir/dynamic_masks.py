"""Masks that values decide: their keys, rules, tensors and work (Shi et al. 2025)."""

from __future__ import annotations

from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.definition import LocalTensor, linear
from eulerc.ir.fields import Block, Field, Flag, Integer
from eulerc.ir.tensors import Init

MASK_FIELDS: dict[str, Field] = {
    "keep": Field(Integer(), "Keys that a query attends to: those with the largest biases.", unit="tokens"),
    "bias": Field(Flag(), "A bias on the projection of the values.", False),
}

DYNAMIC_MASK = Field(
    Block(fields=MASK_FIELDS), "Biases on the scores, projected from the values; few keys stay (Doge).", None
)


def resolve_mask(values: Values, context: ModelContext, report: Report) -> dict[str, Any] | None:
    """The dynamic mask of a layer, checked; None without one."""
    given = values.get("dynamic_mask")
    if given is None:
        return None
    if context.positional == "alibi":
        report.error(
            "E0398",
            "a dynamic mask in a model with alibi",
            values.where("dynamic_mask"),
            "biases the scores of the keys that the mask leaves, and alibi's mask leaves none unbiased",
            secondary=((context.embedding.where("positional"), "alibi, set here"),),
            help="set positional to rope or none",
        )
    return {name: given.get(name, field.default) for name, field in MASK_FIELDS.items()}


def mask_tensors(mask: dict[str, Any] | None, kv_heads: int, width: int, std: Init) -> tuple[LocalTensor, ...]:
    """A decay for each key/value head, and the projection of all values to as many steps."""
    if mask is None:
        return ()
    return (
        LocalTensor("dynamic_mask.A", (kv_heads,), Init("zeros")),
        *linear("dynamic_mask.dt_proj", kv_heads * width, kv_heads, mask["bias"], std),
    )
