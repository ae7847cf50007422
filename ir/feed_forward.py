"""What feed-forward ops share: width, activation, biases."""

from __future__ import annotations

from typing import Any

from eulerc.ir.activations import ACTIVATIONS, GATED_NAMES
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.fields import Choice, Field, Flag, Integer, Number

ACTIVATION = Choice(
    meanings=dict.fromkeys(GATED_NAMES, "gate of that unit") | dict.fromkeys(ACTIVATIONS, "as in transformers")
)

LEVEL_FIELDS: dict[str, Field] = {
    "activation": Field(ACTIVATION, "Activation: of the gate, or of the hidden layer.", None, "size", "hidden_act"),
    "bias": Field(Flag(), "Biases on all projections.", False),
    "intermediate_size": Field(
        Integer(), "Width of the hidden layer.", None, "size", "intermediate_size", "intermediate_size"
    ),
    "mlp_ratio": Field(
        Number(0, 65536, exclusive=True),
        "Width of the hidden layer as a multiple of d_model.",
        None,
        inherit="mlp_ratio",
    ),
}


def resolve_width(values: Values, context: ModelContext, report: Report) -> int | None:
    """`intermediate_size`, or `mlp_ratio` times d_model; the template's own over the model's; ratio 4 by default."""
    for source in (values, context.model):
        width, ratio = source.get("intermediate_size"), source.get("mlp_ratio")
        if source is context.model:
            context.used.update(("intermediate_size", "mlp_ratio"))
        if width is not None and ratio is not None:
            report.error(
                "E0322",
                "intermediate_size and mlp_ratio together",
                source.where("mlp_ratio"),
                "also sets the width",
                secondary=((source.where("intermediate_size"), "the width, set here"),),
                help="keep one of the two",
            )
            return None
        if width is not None:
            return int(width)
        if ratio is not None:
            return _whole(ratio * context.d_model, ratio, source, context, report)
    return 4 * int(context.d_model)


def _whole(width: float, ratio: float, source: Values, context: ModelContext, report: Report) -> int | None:
    if width == int(width):
        return int(width)
    report.error(
        "E0323",
        f"mlp_ratio {ratio} of d_model {int(context.d_model)} is {width}, not a whole number",
        source.where("mlp_ratio"),
        "gives no width",
        help=f"set intermediate_size, {round(width)} for instance",
    )
    return None


def resolve_activation(values: Values, gated: bool, report: Report) -> str | None:
    """The name of the activation in transformers' `ACT2FN`."""
    name = values.get("activation")
    if name is None:
        return "silu" if gated else "gelu"
    if name in GATED_NAMES and not gated:
        report.error(
            "E0324",
            f"activation {name} needs a gate",
            values.where("activation"),
            "names a gated unit",
            help=f"use `type: gated_mlp`, or activation {GATED_NAMES[name]}",
        )
        return None
    return str(GATED_NAMES.get(name, name))


def resolve_dense(values: Values, context: ModelContext, gated: bool, report: Report) -> dict[str, Any] | None:
    """The attributes of a dense feed-forward op."""
    activation = resolve_activation(values, gated, report)
    width = resolve_width(values, context, report)
    if width is None or activation is None:
        return None
    return {"intermediate_size": width, "activation": activation, "bias": values.value("bias")}
