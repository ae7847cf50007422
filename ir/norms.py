"""Norms outside the `norm` of a template: on queries and keys, on the embedding."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import Definition, definition
from eulerc.ir.fields import Choice, Field
from eulerc.ir.ops.layer_norm import LayerNorm
from eulerc.ir.ops.rms_norm import RMSNorm

KINDS: dict[str, type[Definition]] = {"rmsnorm": RMSNorm, "layernorm": LayerNorm}

NORM_TYPE = Choice(
    meanings={
        "rmsnorm": "root mean square (Zhang & Sennrich 2019)",
        "layernorm": "mean and variance (Ba et al. 2016)",
    }
)

NORM_FIELDS: dict[str, Field] = {
    "type": Field(NORM_TYPE, "Kind of norm; rmsnorm if not set.", None),
    **LayerNorm.fields,
    **RMSNorm.fields,
}
"""The keys of a norm in a block of its own: those of every kind."""


def nested_norm(key: str, values: Values, context: ModelContext, report: Report, **defaults: Any) -> Op | None:
    """The norm that the block `key` describes; keys of another kind of norm are reported."""
    given = values.get(key)
    word = given.get("type") or "rmsnorm"
    kind = KINDS[word]
    for name in given:
        if name != "type" and name in NORM_FIELDS and name not in kind.fields:
            report.error(
                "E0317",
                f"{name} is not a property of {word}",
                values.where(f"{key}.{name}"),
                "has no effect here",
                help=f"take {name} out",
            )
    own = {name: value for name, value in {**defaults, **given}.items() if name in kind.fields}
    spans = {name: values.where(f"{key}.{name}") for name in own}
    return kind.lower(Values(own, spans, values.where(key), kind.fields), context, report)


def without_sublayer(norm: Op) -> Op:
    """A norm without the word for the sublayer that it belongs to."""
    return evolve(norm, attributes={name: value for name, value in norm.attributes.items() if name != "sublayer"})


def qk_norm_fields() -> dict[str, Field]:
    """The keys of a norm on queries and keys."""
    over = Field(
        Choice(
            meanings={
                "head": "each head by itself, all with one weight",
                "heads": "each head by itself, with weights of its own (Command R+)",
                "full": "the whole projection",
            }
        ),
        "What is normalised.",
        "head",
    )
    place = Field(
        Choice(meanings={"before_rope": "before the rotation", "after_rope": "after it (Hunyuan, Llama 4)"}),
        "Where the norm stands.",
        "before_rope",
    )
    bias = Field(LayerNorm.fields["bias"].kind, "LayerNorm: a bias.", False)
    return {"type": NORM_FIELDS["type"], "over": over, "place": place, **NORM_FIELDS, "bias": bias}


def resolve_qk_norm(values: Values, context: ModelContext, report: Report) -> dict[str, Any] | None:
    """The norm of queries and keys as attributes of a norm op, with `over`; None without one."""
    given = values.get("qk_norm")
    if given is None:
        return None
    given = {"over": given} if isinstance(given, str) else given
    nested = Values({"qk_norm": given}, values.spans, values.span)
    op = nested_norm("qk_norm", nested, context, report, bias=False)
    if op is None:
        return None
    if given.get("over") == "heads":
        op = by_head(op, values, report)
    own = as_attribute(op)
    place = {"place": "after_rope"} if given.get("place") == "after_rope" else {}
    inherits = given.get("eps") is None
    return {"norm": own.pop("norm"), "over": given.get("over", "head"), "inherits_eps": inherits, **place, **own}


def by_head(op: Op, values: Values, report: Report) -> Op:
    """The norm with a weight for each head: a LayerNorm multiplies in float32, since torch's takes one weight."""
    for key, wanted in (("weight", True), ("bias", False), *((("unit_offset", False),) * (op.name == "norm.layer"))):
        if op.get(key, wanted) != wanted:
            report.error(
                "E0364",
                f"{key} on a norm with weights for each head",
                values.where(f"qk_norm.{key}"),
                "each head has a weight here, and nothing else",
                help=f"take {key} out, or set over to head",
            )
    return op.replacing(float32_weight=True) if op.name == "norm.layer" else op


def as_attribute(norm: Op) -> dict[str, Any]:
    """A norm as an attribute of the op that holds it: its name under `norm`, and what is not implicit."""
    implicit = definition(norm.name).implicit
    return {"norm": norm.name, **{key: value for key, value in norm.attributes.items() if value != implicit.get(key)}}
