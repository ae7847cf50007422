"""Linear biases on the scores (Press et al. 2022, section 3): their fields, their rules, their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.fields import Field, Flag, Number

ALIBI_FIELDS: dict[str, Field] = {
    "bias_max": Field(
        Number(0, exclusive=True), "The slopes fall to 2^-bias_max (MPT).", 8.0, "size", "alibi_bias_max"
    ),
    "scaled": Field(Flag(), "Scale the biases as the scores are, by head_dim^-0.5 (Falcon-RW).", False),
}


def resolve_alibi(values: Values, context: ModelContext, report: Report, *, latent: bool = False) -> Any:
    """The attribute of a mixer: false, true, or a mapping where the biases are not those of the paper."""
    if context.positional != "alibi":
        return False
    given = context.embedding.get("alibi") or {}
    options = {name: given.get(name, field.default) for name, field in ALIBI_FIELDS.items()}
    if options["scaled"] and (latent or values.get("scale") is not None):
        report.error(
            "E0366",
            "scaled biases in latent attention" if latent else f"scaled biases beside scale {values.get('scale')}",
            values.span if latent else values.where("scale"),
            "its heads have no head_dim" if latent else "the scores are scaled otherwise",
            secondary=((context.embedding.where("alibi.scaled"), "biases are scaled by head_dim^-0.5"),),
            help="take `alibi.scaled` out" if latent else "take scale out, or `alibi.scaled`",
        )
    plain = all(options[name] == field.default for name, field in ALIBI_FIELDS.items())
    return True if plain else {**options, "bias_max": float(options["bias_max"])}


def alibi_config(op: Op) -> dict[str, Any]:
    """The config field of how far the slopes fall, where that is not as in the paper."""
    alibi = op.get("alibi")
    if not isinstance(alibi, Mapping) or alibi["bias_max"] == ALIBI_FIELDS["bias_max"].default:
        return {}
    return {"alibi_bias_max": alibi["bias_max"]}


def is_scaled(op: Op) -> bool:
    """Whether a mixer's biases are scaled as its scores are."""
    alibi = op.get("alibi")
    return isinstance(alibi, Mapping) and bool(alibi["scaled"])
