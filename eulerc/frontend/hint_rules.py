"""Rules between the keys of `training_hints`."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from attrs import frozen

from eulerc.frontend.model_rules import is_tied
from eulerc.ir.context import ModelContext, Report
from eulerc.ir.starting import small_deviation

FAMILIES = re.compile(r"(normal|depth_scaled|mup)_(\d*\.?\d+(?:e-?\d+)?)")


@frozen
class Start:
    """An init family with its standard deviation; 0 where none could be read."""

    family: str
    deviation: Decimal


def start_of(written: str, d_model: int) -> Start:
    """The family that `init` names."""
    if written == "small":
        return Start("normal", small_deviation(d_model))
    match = FAMILIES.fullmatch(written)
    try:
        return Start(match[1], Decimal(match[2])) if match else Start("normal", Decimal(0))
    except InvalidOperation:
        return Start("normal", Decimal(0))


def check_init(context: ModelContext, report: Report) -> None:
    """The family is known, and muP has its base."""
    hints = context.hints
    written = hints.value("init")
    start = start_of(written, int(context.d_model))
    if not 0 < start.deviation <= 1:
        report.error(
            "E0208",
            f"init {written!r} is not a distribution",
            hints.where("init"),
            "not `normal_STD`, `depth_scaled_STD`, `mup_STD` or `small`",
            help="write normal_0.02",
        )
    base = hints.get("mup_base_width")
    if base is not None and start.family != "mup":
        report.error(
            "E0761",
            f"mup_base_width with init {written}",
            hints.where("mup_base_width"),
            "only muP has a base",
            help="set init to mup_0.02, or take mup_base_width out",
        )
    if start.family == "mup":
        _check_mup(base, context, report)


def _check_mup(base: int | None, context: ModelContext, report: Report) -> None:
    hints, width = context.hints, int(context.d_model)
    if base is None:
        report.error(
            "E0761",
            f"init {hints.value('init')} without mup_base_width",
            hints.where("init"),
            "scaled from which width?",
            help="set mup_base_width to the d_model at which the hints were chosen",
        )
    elif is_tied(context) and not any(context.head.get(key) for key in ("logit_scale", "logit_divisor")):
        report.error(
            "E0762",
            "muP on a table that is embedding and head",
            hints.where("init"),
            "the head would have to start smaller than the embedding",
            help=f"set head.logit_divisor to {width / base:g}, or head.tie_weights to false",
        )
    if hints.value("optimizer") in ("muon", "hybrid"):
        report.error(
            "E0763",
            f"muP with optimizer {hints.get('optimizer')}",
            hints.where("optimizer"),
            "muP's learning rates are derived for Adam",
            secondary=((hints.where("init"), "muP, set here"),),
            help="set optimizer to adamw, or init to normal_0.02",
        )


def check_optimizer(context: ModelContext, report: Report) -> None:
    """Groups belong to the hybrid, Muon's numbers to an optimizer with Muon."""
    hints = context.hints
    optimizer = hints.value("optimizer") or "adamw"
    if optimizer == "hybrid" and "optimizer_groups" not in hints:
        report.error(
            "E0764",
            "optimizer hybrid without optimizer_groups",
            hints.where("optimizer"),
            "which parameters does Muon train?",
            help="add `optimizer_groups: {muon: [...], adamw: [...]}`, or set optimizer to muon",
        )
    needs = {"optimizer_groups": ("hybrid",), "muon": ("hybrid", "muon")}
    for key, optimizers in needs.items():
        if key in hints and optimizer not in optimizers:
            report.error(
                "E0764",
                f"{key} with optimizer {optimizer}",
                hints.where(key),
                "has no effect here",
                secondary=((hints.where("optimizer"), "the optimizer, set here"),) if "optimizer" in hints else (),
                help=f"set optimizer to {optimizers[0]}, or take {key} out",
            )
    muon = hints.get("muon") or {}
    if "stabilize_coefs" in muon and not muon.get("stabilize_iters"):
        report.error(
            "E0764",
            "stabilize_coefs without stabilize_iters",
            hints.where("muon.stabilize_coefs"),
            "coefficients of no iteration",
            help="add `stabilize_iters: 2`, or take stabilize_coefs out",
        )
