"""What recurrent and convolutional mixers share: their states, their short convolution, the chunks they work in."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar

from eulerc.ir.cache_kinds import CONV
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, StateType
from eulerc.ir.definition import Definition, LocalTensor, definition
from eulerc.ir.tensors import Init

STEPS = "inverse_softplus time_step_min time_step_max"
"""How biases of steps start, for `ClassBinding.init`."""


def conv_state(channels: int, kernel: int) -> StateType:
    """The inputs that a causal convolution reads again, (batch, channels, kernel)."""
    return StateType(CONV, ("b", channels, kernel))


def recurrent_state(*dims: int) -> StateType:
    """A state that does not grow, in float32: (batch, *dims)."""
    return StateType("recurrent", ("b", *dims), "float32")


def conv_tensors(name: str, channels: int, kernel: int, bias: bool) -> tuple[LocalTensor, ...]:
    """A depthwise convolution, which starts as torch starts one: uniform within kernel^-0.5, biases zero."""
    bound = (Decimal(1) / Decimal(kernel)).sqrt()
    weight = LocalTensor(f"{name}.weight", (channels, 1, kernel), Init("uniform", -bound, bound))
    return (weight, LocalTensor(f"{name}.bias", (channels,), Init("zeros"))) if bias else (weight,)


class RecurrentMixer(Definition):
    """A mixer whose decode state does not grow with the sequence."""

    axis = "mixer"
    gives_weights: ClassVar[bool] = False

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("recurrent",)


def inner_width(values: Values, context: ModelContext, report: Report) -> int | None:
    """`expand` times d_model, which must be whole."""
    expand = values.value("expand")
    width = int(context.d_model) * expand
    if width == int(width):
        return int(width)
    report.error(
        "E0801",
        f"{expand} times d_model {int(context.d_model)} is not whole",
        values.where("expand"),
        f"an inner width of {width:g}",
        secondary=((context.model.where("d_model"), "d_model, set here"),),
        help=f"set expand to {max(1, round(expand))}",
    )
    return None


def steps_init(op: Op) -> Init:
    """Biases whose softplus, the step, is uniform in its logarithm (Gu & Dao 2023, section 3.6)."""
    low, high = definition(op.name).option(op, "dt_range")
    return Init("inverse_softplus", Decimal(str(low)), Decimal(str(high)))


def check_ranges(values: Values, report: Report) -> None:
    """Bounds come in order."""
    for name in ("dt_limit", "dt_range"):
        bounds = values.get(name)
        if bounds is not None and not bounds[0] < bounds[1]:
            report.error(
                "E0802",
                f"{name} is not a range",
                values.where(name),
                f"{bounds[0]:g} is not below {bounds[1]:g}",
                help=f"{name}: [{min(bounds):g}, {max(bounds) if bounds[0] != bounds[1] else bounds[0] + 1:g}]",
            )


def refuse_foreign_keys(variant: str, foreign: Mapping[str, str], values: Values, report: Report) -> None:
    """Keys that the other variant reads alone; `foreign` says why."""
    for key, reason in foreign.items():
        if key in values:
            report.error(
                "E0803",
                f"{key} is not a key of {variant}",
                values.where(key),
                reason,
                secondary=((values.where("variant"), "the variant, set here"),) if "variant" in values else (),
                help=f"take {key} out, or set variant to {'mamba1' if variant == 'mamba2' else 'mamba2'}",
            )


def refuse_norm_eps(values: Values, has_norm: bool, key: str, report: Report) -> None:
    """An eps needs a norm, which `key` chooses."""
    if values.get("norm_eps") is not None and not has_norm:
        report.error(
            "E0804",
            "norm_eps without a norm",
            values.where("norm_eps"),
            "there is no norm for it",
            help=f"take norm_eps out, or set {key}",
        )
