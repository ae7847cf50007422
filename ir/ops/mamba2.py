"""`mixer.mamba2`: the state space mixer of Mamba-2 (Dao & Gu 2024), and what chooses between the two Mambas."""

from __future__ import annotations

from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, StateType
from eulerc.ir.definition import ClassBinding, Cost, LocalTensor, definition, linear, register
from eulerc.ir.divisors import divisors, nearest_divisor
from eulerc.ir.fields import EPS, Block, Choice, Field, Flag, Integer, ListOf, Number
from eulerc.ir.recurrence import (
    STEPS,
    RecurrentMixer,
    check_ranges,
    conv_state,
    conv_tensors,
    inner_width,
    recurrent_state,
    refuse_foreign_keys,
    refuse_norm_eps,
    steps_init,
)
from eulerc.ir.tensors import Init

NORMS = {"gate_first": "RMSNormGated", "norm_first": "RMSNormBeforeGate"}
HEAD_DIM = 64
"""The width of a head that Mamba-2 has by default, where it divides the inner width."""

MULTIPLIERS: dict[str, Field] = {
    name: Field(Number(), f"On {what}.", 1.0, "size", f"mamba_{name}_factor")
    for name, what in {
        "gate": "the gate",
        "input": "what the convolution reads",
        "b": "B",
        "c": "C",
        "dt": "the steps",
    }.items()
}
"""Factors on the parts of the projection in, in its order."""

D_STATE = 64
"""Size of the state of a channel that Mamba-2 has by default."""

FOREIGN = {
    "dt_rank": "Mamba-2 reads the step of a head off the input, without a rank",
    "state_norm": "norms on steps, B and C are Mamba's (Jamba); `norm` stands before the projection out",
}
"""Keys of Mamba alone, and why."""


@register
class Mamba2(RecurrentMixer):
    """A selective state space whose decay is one number a head (Dao & Gu 2024, eq. 1 and section 7)."""

    name = "mixer.mamba2"
    yaml_type, block = "mamba", "mamba"
    module_name = "mamba"
    spelled = {"heads": "mixer.mamba.expand"}
    implicit = {
        "conv_bias": True,
        "proj_bias": False,
        "norm": "gate_first",
        "dt_limit": None,
        "dt_range": [0.001, 0.1],
        "multipliers": None,
    }

    variant = Field(
        Choice(
            meanings={
                "mamba1": "Mamba, a decay for each channel and state (Gu & Dao 2023)",
                "mamba2": "Mamba-2, a decay for each head (Dao & Gu 2024)",
            }
        ),
        "Which Mamba.",
        "mamba2",
    )
    d_state = Field(
        Integer(maximum=2**16),
        "Size of the state of each channel; 64 if not set, and 16 for Mamba-1.",
        None,
        "size",
        "mamba_d_state",
    )
    d_conv = Field(Integer(2, 64), "Tokens that the convolution before it sees.", 4, "size", "mamba_d_conv")
    expand = Field(Number(0, 64, exclusive=True), "Inner width as a multiple of d_model.", 2)
    head_dim = Field(
        Integer(maximum=2**16),
        "Mamba-2: width of a head; if not set, 64 or the largest divisor of the inner width below.",
        None,
        "size",
        "mamba_d_head",
    )
    n_groups = Field(
        Integer(maximum=2**16), "Mamba-2: groups of heads that share B and C.", 1, "size", "mamba_n_groups"
    )
    chunk_size = Field(
        Integer(maximum=2**16),
        "Mamba-2: tokens worked on together; changes speed and not results.",
        256,
        "size",
        "mamba_chunk_size",
        unit="tokens",
    )
    conv_bias = Field(Flag(), "A bias on the convolution.", True)
    proj_bias = Field(Flag(), "Biases on the projections in and out.", False)
    norm = Field(
        Choice(
            meanings={
                "gate_first": "gate, then RMSNorm over each group (Mamba-2)",
                "norm_first": "RMSNorm over each group, then gate (Falcon-H1)",
                "none": "the gate alone (Mamba)",
            }
        ),
        "Mamba-2: norm before the projection out.",
        "gate_first",
    )
    norm_eps = Field(
        EPS,
        "Added to the mean square in the norms inside; `model.norm_eps` if not set.",
        None,
        "size",
        "mamba_norm_eps",
    )
    dt_rank = Field(
        Integer(maximum=2**16),
        "Mamba-1: rank of the step's projection; a sixteenth of d_model, rounded up, if not set.",
        None,
        "size",
        "mamba_dt_rank",
    )
    state_norm = Field(
        Choice(
            meanings={
                "none": "none (Mamba)",
                "rms": "RMSNorm (Jamba)",
                "rms_unweighted": "RMSNorm without weights (FalconMamba)",
            }
        ),
        "Mamba-1: norms on the step's input, B and C.",
        "none",
    )
    multipliers = Field(
        Block(fields=MULTIPLIERS), "Mamba-2: factors on the parts of the projection in (Falcon-H1).", None
    )
    dt_limit = Field(ListOf(item=Number(0), minimum=2, maximum=2), "Mamba-2: bounds of the step.", None)
    dt_range = Field(
        ListOf(item=Number(0, exclusive=True), minimum=2, maximum=2),
        "Bounds of the steps before training, drawn uniformly in their logarithm.",
        [0.001, 0.1],
    )

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        if values.value("variant") == "mamba1":
            return definition("mixer.mamba1").lower(values, context, report)
        refuse_foreign_keys("mamba2", FOREIGN, values, report)
        refuse_norm_eps(values, values.value("norm") != "none", "norm", report)
        check_ranges(values, report)
        width = inner_width(values, context, report)
        if width is None:
            return None
        head_dim = values.get("head_dim") or max(size for size in divisors(width) if size <= HEAD_DIM)
        if width % head_dim:
            report.error(
                "E0800",
                f"an inner width of {width} cannot be split into heads of {head_dim}",
                values.where("head_dim"),
                f"{width} is not a multiple of {head_dim}",
                help=f"set head_dim to {nearest_divisor(width, head_dim)}",
            )
            return None
        heads, groups = width // head_dim, values.value("n_groups")
        if heads % groups:
            report.error(
                "E0800",
                f"{heads} heads cannot be split into {groups} groups",
                values.where("n_groups"),
                f"{heads} is not a multiple of {groups}",
                help=f"set n_groups to {nearest_divisor(heads, groups)}",
            )
            return None
        names = ("d_conv", "chunk_size", "conv_bias", "proj_bias", "norm", "dt_limit", "dt_range")
        attributes = {"heads": heads, "head_dim": head_dim, "n_groups": groups}
        attributes["d_state"] = values.get("d_state") or D_STATE
        attributes |= {name: values.value(name) for name in names}
        given = values.get("multipliers")
        attributes["multipliers"] = None if given is None else [float(given.get(name, 1.0)) for name in MULTIPLIERS]
        attributes["norm_eps"] = float(values.get("norm_eps") or context.norm_eps("norm.rms"))
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def carries(cls, op: Op) -> tuple[StateType, ...]:
        states = recurrent_state(op["heads"], op["head_dim"], op["d_state"])
        return (conv_state(conv_width(op), op["d_conv"]), states)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        inner, heads = op["heads"] * op["head_dim"], op["heads"]
        bias = cls.option(op, "proj_bias")
        norm = (LocalTensor("norm.weight", (inner,), Init("ones")),) if cls.option(op, "norm") != "none" else ()
        return (
            LocalTensor("dt_bias", (heads,), steps_init(op)),
            LocalTensor("A_log", (heads,), Init("log_range")),
            LocalTensor("D", (heads,), Init("ones")),
            *linear("in_proj", hidden_size, inner + conv_width(op) + heads, bias, std),
            *conv_tensors("conv1d", conv_width(op), op["d_conv"], cls.option(op, "conv_bias")),
            *norm,
            *linear("out_proj", inner, hidden_size, bias, std),
        )

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        inner, channels = op["heads"] * op["head_dim"], conv_width(op)
        projections = hidden_size * (inner + channels + op["heads"]) + inner * hidden_size
        states = channels * op["d_conv"] + 2 * inner * op["d_state"]
        within = op["n_groups"] * op["d_state"] + inner
        return Cost(projections + states, within, window=op["chunk_size"], chunked=True, blockwise=True)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        norm = cls.option(op, "norm")
        facts = {
            "mamba_conv_bias": cls.option(op, "conv_bias"),
            "mamba_proj_bias": cls.option(op, "proj_bias"),
            "mamba_rms_norm": norm != "none",
            "limits_time_step": cls.option(op, "dt_limit") is not None,
            "scales_projection": cls.option(op, "multipliers") is not None,
        }
        slots = {"MixerNorm": ClassBinding("rms_norm_gated", NORMS[norm], base="MixerNorm")} if norm in NORMS else {}
        init = {"A_log": "log_range", "dt_bias": STEPS, "D": "ones", "conv1d.weight": "uniform_by_fan"}
        return ClassBinding("mamba2", "Mamba2Mixer", facts, slots, init=init)

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        names = ("head_dim", "n_groups", "d_state", "d_conv", "chunk_size")
        fields = {str(cls.fields[name].config): op[name] for name in names}
        fields["mamba_n_heads"] = op["heads"]
        if cls.option(op, "norm") != "none":
            fields["mamba_norm_eps"] = op["norm_eps"]
        if cls.option(op, "dt_limit") is not None:
            fields |= dict(zip(("time_step_lower", "time_step_upper"), map(float, op["dt_limit"]), strict=True))
        if cls.option(op, "multipliers") is not None:
            words = (str(field.config) for field in MULTIPLIERS.values())
            fields |= dict(zip(words, op["multipliers"], strict=True))
        low, high = cls.option(op, "dt_range")
        return fields | {"time_step_min": float(low), "time_step_max": float(high)}


def conv_width(op: Op) -> int:
    """Channels that the convolution runs over: the inner width, B and C."""
    return int(op["heads"] * op["head_dim"] + 2 * op["n_groups"] * op["d_state"])
