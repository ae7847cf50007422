"""What mixers that learn by the delta rule share: gated delta networks and Kimi delta attention."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from eulerc.ir.attending import derived_head_dim
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, StateType
from eulerc.ir.definition import LocalTensor, linear
from eulerc.ir.fields import EPS, Choice, Field, Flag, Integer, ListOf, Number
from eulerc.ir.recurrence import (
    STEPS,
    RecurrentMixer,
    check_ranges,
    conv_state,
    conv_tensors,
    recurrent_state,
    steps_init,
)
from eulerc.ir.tensors import Init

GATES = {"silu": "SiLU (Yang et al. 2025)", "sigmoid": "between 0 and 1 (Kimi Team 2025)"}
"""Activations of the gate on the output."""


class DeltaMixer(RecurrentMixer):
    """A memory of each head that is told what it lacks (the delta rule), behind a short convolution.

    `decays` bounds the factors of the decays before training.
    """

    module_name = "linear_attn"
    implicit = {"negative_eigenvalues": False, "decay_dtype": "model", "dt_range": [0.001, 0.1]}
    decays: ClassVar[tuple[str, str]]

    n_heads = Field(
        Integer(maximum=65536),
        "Heads of queries and keys.",
        role="size",
        config="linear_num_key_heads",
        inherit="n_heads",
    )
    head_dim = Field(
        Integer(maximum=2**20),
        "Width of the queries and keys of a head; d_model / n_heads if not set.",
        None,
        "size",
        "linear_key_head_dim",
        "head_dim",
    )
    v_head_dim = Field(
        Integer(maximum=2**20),
        "Width of the values of a head; head_dim if not set.",
        None,
        "size",
        "linear_value_head_dim",
    )
    d_conv = Field(Integer(2, 64), "Tokens that the convolution before it sees.", 4, "size", "linear_conv_kernel_dim")
    negative_eigenvalues = Field(
        Flag(),
        "Write up to twice what is lacking, so that memories may change sign (Grazzi et al. 2025).",
        False,
    )
    decay_dtype = Field(
        Choice(meanings={"model": "that of the model", "float32": "float32 in a model of any dtype (OLMo Hybrid)"}),
        "Dtype in which the factors of the decays are kept.",
        "model",
    )
    dt_range = Field(
        ListOf(item=Number(0, exclusive=True), minimum=2, maximum=2),
        "Bounds of the steps of decay before training, drawn uniformly in their logarithm.",
        [0.001, 0.1],
    )
    norm_eps = Field(
        EPS,
        "Added to the mean square in the norm over a head's output; `model.norm_eps` if not set.",
        None,
        "size",
        "linear_norm_eps",
    )
    chunk_size = Field(
        Integer(maximum=2**16),
        "Tokens worked on together; changes speed and not results.",
        32,
        "size",
        "linear_chunk_size",
        unit="tokens",
    )

    @classmethod
    def attributes(cls, values: Values, context: ModelContext, report: Report) -> dict[str, Any] | None:
        """What the two read in the same way; None where heads have no width."""
        check_ranges(values, report)
        heads, head_dim = values.or_inherited("n_heads", context), values.or_inherited("head_dim", context)
        if head_dim is None:
            head_dim = derived_head_dim(heads, values, context, report)
        if head_dim is None:
            return None
        names = ("d_conv", "negative_eigenvalues", "gate", "decay_dtype", "dt_range", "chunk_size")
        return {
            "n_heads": heads,
            "head_dim": head_dim,
            "v_head_dim": values.get("v_head_dim") or head_dim,
            **{name: values.value(name) for name in names},
            "norm_eps": float(values.get("norm_eps") or context.norm_eps("norm.rms")),
        }

    @classmethod
    def value_heads(cls, op: Op) -> int:
        """Heads of values, of which each has a memory."""
        return int(op["n_heads"])

    @classmethod
    def key_width(cls, op: Op) -> int:
        return int(op["n_heads"] * op["head_dim"])

    @classmethod
    def value_width(cls, op: Op) -> int:
        return cls.value_heads(op) * int(op["v_head_dim"])

    @classmethod
    def conv_width(cls, op: Op) -> int:
        """Channels that the convolution runs over: queries, keys and values."""
        return 2 * cls.key_width(op) + cls.value_width(op)

    @classmethod
    def carries(cls, op: Op) -> tuple[StateType, ...]:
        memory = recurrent_state(cls.value_heads(op), op["head_dim"], op["v_head_dim"])
        return (conv_state(cls.conv_width(op), op["d_conv"]), memory)

    @classmethod
    def common_tensors(cls, op: Op, hidden_size: int, std: Init, steps: int) -> tuple[LocalTensor, ...]:
        """The tensors that both have; decays have this number of `steps`."""
        heads, values = cls.value_heads(op), cls.value_width(op)
        low, high = map(Decimal, cls.decays)
        dtype = "float32" if cls.option(op, "decay_dtype") == "float32" else None
        return (
            LocalTensor("dt_bias", (steps,), steps_init(op)),
            LocalTensor("A_log", (heads,), Init("log_uniform", low, high), dtype),
            *linear("in_proj_qkv", hidden_size, cls.conv_width(op), False, std),
            *linear("in_proj_b", hidden_size, heads, False, std),
            *conv_tensors("conv1d", cls.conv_width(op), op["d_conv"], False),
            LocalTensor("norm.weight", (op["v_head_dim"],), Init("ones")),
            *linear("out_proj", values, hidden_size, False, std),
        )

    @classmethod
    def common_work(cls, op: Op, hidden_size: int) -> int:
        """Multiply-adds of a token that both have: projections, the convolution, the memory read twice and written."""
        heads, values = cls.value_heads(op), cls.value_width(op)
        projections = hidden_size * (cls.conv_width(op) + heads + values)
        return projections + cls.conv_width(op) * int(op["d_conv"]) + 3 * int(op["head_dim"]) * values

    @classmethod
    def common_facts(cls, op: Op) -> dict[str, Any]:
        return {
            "negative_eigenvalues": cls.option(op, "negative_eigenvalues"),
            "linear_gate": cls.option(op, "gate"),
            "decay_in_float32": cls.option(op, "decay_dtype") == "float32",
        }

    @classmethod
    def norm_slot(cls, op: Op) -> dict[str, Op]:
        return {"state_norm": Op("norm.rms", attributes={"eps": op["norm_eps"]})}

    @classmethod
    def common_init(cls) -> dict[str, str]:
        return {
            "A_log": f"log_uniform {' '.join(cls.decays)}",
            "dt_bias": STEPS,
            "conv1d.weight": "uniform_by_fan",
        }

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        low, high = cls.option(op, "dt_range")
        return super().config_fields(op) | {"time_step_min": float(low), "time_step_max": float(high)}
