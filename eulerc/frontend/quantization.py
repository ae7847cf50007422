"""`compatibility.quant_aware_training`: what a trainer rounds weights to."""

from __future__ import annotations

from typing import Any

from eulerc.frontend.blocks import QUANTIZATION
from eulerc.ir.context import Report, Values
from eulerc.ir.core import Op

BITS = {"fp4": 4, "fp8": 8, "int8": 8, "bf16": 16, "fp32": 32, "bfloat16": 16, "float16": 16, "float32": 32}


def check_quantization(compatibility: Values, model: Values, report: Report) -> None:
    """What rounded weights become has more bits than they, and no more than the model."""
    given = _enabled(compatibility)
    if given is None or given.get("dequant_to") is None or model.is_unread("dtype"):
        return
    dtype, wider = given.get("dtype", QUANTIZATION["dtype"].default), given["dequant_to"]
    own = model.given.get("dtype", "bfloat16")
    if BITS[wider] <= BITS[dtype]:
        why, help = f"holds no more than {dtype}", "set it to bf16 or fp32, or take it out"
    elif BITS[wider] > BITS[own]:
        why, help = f"weights of {own} cannot be {wider}", "set it to bf16, or take it out"
    else:
        return
    report.error(
        "E0772",
        f"dequant_to {wider} of {dtype} in a model of {own}",
        compatibility.where("quant_aware_training.dequant_to"),
        why,
        help=help,
    )


def quantization_ops(compatibility: Values) -> list[Op]:
    """The op that says so, where training is to be aware of quantisation."""
    given = _enabled(compatibility)
    if given is None:
        return []
    prefix = "quant_aware_training."
    spans = {key.removeprefix(prefix): span for key, span in compatibility.spans.items() if key.startswith(prefix)}
    attributes = {name: given.get(name, QUANTIZATION[name].default) for name in ("dtype", "scope", "dequant_to")}
    span = compatibility.where("quant_aware_training")
    return [Op("quantization", attributes=attributes, span=span, spans=spans)]


def _enabled(compatibility: Values) -> dict[str, Any] | None:
    given = compatibility.given.get("quant_aware_training")
    return given if given is not None and given.get("enabled", True) else None
