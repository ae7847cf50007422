"""`mixer.mamba1`: the state space mixer of Mamba (Gu & Dao 2023), with a decay for each channel and state."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, StateType
from eulerc.ir.definition import ClassBinding, Cost, LocalTensor, linear, register
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

D_STATE = 16
"""Size of the state of a channel that Mamba has by default."""

FOREIGN = {
    "head_dim": "Mamba has a decay for every channel, and no heads",
    "n_groups": "all channels share B and C",
    "chunk_size": "its scan has no length of chunks to choose",
    "norm": "a norm before the projection out came with Mamba-2",
    "multipliers": "it was never trained with factors on its projection",
    "dt_limit": "its kernels have no bounds for the step",
}
"""Keys of Mamba-2 alone, and why."""


@register
class Mamba1(RecurrentMixer):
    """A selective state space whose decay is a number for each channel and state (Gu & Dao 2023, eq. 2 and 4)."""

    name = "mixer.mamba1"
    title = "Mamba"
    module_name = "mamba"
    implicit = {
        "conv_bias": True,
        "proj_bias": False,
        "state_norm": "none",
        "norm_eps": None,
        "dt_range": [0.001, 0.1],
    }
    spelled = {"width": "mixer.mamba.expand"} | {
        name: f"mixer.mamba.{name}" for name in (*implicit, "d_state", "d_conv", "dt_rank")
    }

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        refuse_foreign_keys("mamba1", FOREIGN, values, report)
        check_ranges(values, report)
        norm = values.value("state_norm")
        refuse_norm_eps(values, norm != "none", "state_norm", report)
        width = inner_width(values, context, report)
        if width is None:
            return None
        attributes = {
            "width": width,
            "d_state": values.get("d_state") or D_STATE,
            "dt_rank": values.get("dt_rank") or -(-int(context.d_model) // 16),
            **{name: values.value(name) for name in ("d_conv", "conv_bias", "proj_bias", "state_norm", "dt_range")},
            "norm_eps": float(values.get("norm_eps") or context.norm_eps("norm.rms")) if norm != "none" else None,
        }
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def carries(cls, op: Op) -> tuple[StateType, ...]:
        return (conv_state(op["width"], op["d_conv"]), recurrent_state(op["width"], op["d_state"]))

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        inner, rank, states = op["width"], op["dt_rank"], op["d_state"]
        bias = cls.option(op, "proj_bias")
        bound = (Decimal(1) / Decimal(rank)).sqrt()
        widths = {"dt_layernorm": rank, "b_layernorm": states, "c_layernorm": states}
        norms = [LocalTensor(f"{name}.weight", (width,), Init("ones")) for name, width in widths.items()]
        return (
            LocalTensor("A_log", (inner, states), Init("log_range")),
            LocalTensor("D", (inner,), Init("ones")),
            *linear("in_proj", hidden_size, 2 * inner, bias, std),
            *conv_tensors("conv1d", inner, op["d_conv"], cls.option(op, "conv_bias")),
            *linear("x_proj", inner, rank + 2 * states, False, std),
            LocalTensor("dt_proj.weight", (inner, rank), Init("uniform", -bound, bound)),
            LocalTensor("dt_proj.bias", (inner,), steps_init(op)),
            *(norms if cls.option(op, "state_norm") == "rms" else ()),
            *linear("out_proj", inner, hidden_size, bias, std),
        )

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        inner, rank = op["width"], op["dt_rank"]
        steps = inner * (rank + 2 * op["d_state"]) + rank * inner
        return Cost(3 * hidden_size * inner + inner * op["d_conv"] + steps)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        norm = cls.option(op, "state_norm")
        facts = {
            "mamba_conv_bias": cls.option(op, "conv_bias"),
            "mamba_proj_bias": cls.option(op, "proj_bias"),
            "mamba_state_norm": norm != "none",
        }
        attributes = {"eps": cls.option(op, "norm_eps"), "weight": norm == "rms"}
        slots = {"state_norm": Op("norm.rms", attributes=attributes)} if norm != "none" else {}
        init = {
            "A_log": "log_range",
            "D": "ones",
            "conv1d.weight": "uniform_by_fan",
            "dt_proj.weight": "uniform_by_fan",
            "dt_proj.bias": STEPS,
        }
        return ClassBinding("mamba1", "MambaMixer", facts, slots, init=init)

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        fields = {f"mamba_{name}": op[name] for name in ("d_state", "d_conv", "dt_rank")}
        fields["mamba_d_ssm"] = op["width"]
        if cls.option(op, "norm_eps") is not None:
            fields["mamba_state_norm_eps"] = op["norm_eps"]
        low, high = cls.option(op, "dt_range")
        return fields | {"time_step_min": float(low), "time_step_max": float(high)}
