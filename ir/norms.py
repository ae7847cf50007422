"""What norms have in common: their YAML types, and the norm on queries and keys."""

from __future__ import annotations

from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.fields import Choice, Field, Flag, Number

NORM_TYPES = {"rmsnorm": "norm.rms", "layernorm": "norm.layer"}

NORM_TYPE = Choice(
    meanings={
        "rmsnorm": "root mean square (Zhang & Sennrich 2019)",
        "layernorm": "mean and variance (Ba et al. 2016)",
    }
)
EPS = Number(0, 1, exclusive=True)


def qk_norm_fields() -> dict[str, Field]:
    return {
        "type": Field(NORM_TYPE, "Kind of norm; rmsnorm if not set.", None),
        "over": Field(
            Choice(meanings={"head": "each head by itself", "full": "the whole projection"}),
            "What is normalised.",
            "head",
        ),
        "eps": Field(EPS, "Added to the variance; `model.norm_eps` if not set.", None),
        "unit_offset": Field(Flag(), "RMSNorm: the weight is stored as its difference from 1.", False),
        "float32_weight": Field(Flag(), "Multiply by the weight in float32, before rounding.", False),
        "bias": Field(Flag(), "LayerNorm: a bias.", False),
    }


def resolve_qk_norm(values: Values, context: ModelContext, report: Report) -> dict[str, Any] | None:
    """The norm of queries and keys as attributes of a norm op, with `over`; None without one."""
    given = values.get("qk_norm")
    if given is None:
        return None
    given = {"over": given} if isinstance(given, str) else given
    name = NORM_TYPES[given.get("type") or "rmsnorm"]
    inherits = given.get("eps") is None
    attributes: dict[str, Any] = {
        "norm": name,
        "over": given.get("over", "head"),
        "eps": context.norm_eps(name) if inherits else float(given["eps"]),
        "inherits_eps": inherits,
        "float32_weight": given.get("float32_weight", False),
    }
    unused = "bias" if name == "norm.rms" else "unit_offset"
    if given.get(unused):
        report.error(
            "E0317",
            f"{unused} is not a property of {given.get('type') or 'rmsnorm'}",
            values.where(f"qk_norm.{unused}"),
            "has no effect here",
            help=f"take {unused} out",
        )
    used = "unit_offset" if name == "norm.rms" else "bias"
    return {**attributes, used: given.get(used, False)}
