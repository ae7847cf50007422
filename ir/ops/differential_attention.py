"""`mixer.differential_attention`: the difference of two softmax attentions (Ye et al. 2024)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from eulerc.ir.alibi import resolve_alibi
from eulerc.ir.attending import (
    PLAIN,
    attention_config,
    attention_facts,
    attention_slots,
    attention_state,
    check_window,
    masked_traits,
    plain_options,
    refuse_other_keys,
    resolve_heads,
    seen_pairs,
)
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, StateType
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, linear, register
from eulerc.ir.fields import EPS, Block, Field, Flag, Integer, Number
from eulerc.ir.positions import resolve_rope
from eulerc.ir.tensors import Init

DIFFERENTIAL_FIELDS: dict[str, Field] = {
    "lambda_init": Field(
        Number(0, 1, below=1),
        "Weight of the second attention before training; 0.8 - 0.6 exp(-0.3 layer) if not set (section 2.1).",
        None,
        "size",
        "lambda_init",
    ),
    "lambda_std": Field(
        Number(0, exclusive=True), "Standard deviation that the four trained vectors start with.", 0.1, "size"
    ),
    "norm_eps": Field(EPS, "Added to the mean square in the heads' norm; `model.norm_eps` if not set.", None),
    "norm_weight": Field(Flag(), "A weight in the heads' norm (the paper); without one in DiffLlama.", False),
}

DIFFERENTIAL = Field(
    Block(fields=DIFFERENTIAL_FIELDS), "Half of the heads attend to what is noise to the other half.", None
)


@register
class DifferentialAttention(Definition):
    """Head i less lambda times head i + n/2 (Ye et al. 2024, eqs. 1-3), whose values are those of both; then a norm."""

    name = "mixer.differential_attention"
    axis = "mixer"
    module_name = "self_attn"
    implicit = {**PLAIN, "lambda_init": None, "lambda_std": 0.1, "norm_weight": False, "rope": None, "alibi": False}
    spelled = {name: f"mixer.attention.differential.{name}" for name in DIFFERENTIAL_FIELDS} | {
        name: f"mixer.attention.{name}" for name in (*PLAIN, "n_heads", "n_kv_heads", "head_dim", "rope")
    }

    n_heads = Field(Integer(), "Query heads, both halves.", role="size", config="num_attention_heads")
    n_kv_heads = Field(Integer(), "Key/value heads, both halves.", role="size", config="num_key_value_heads")
    head_dim = Field(Integer(), "Width of a head.", role="size", config="head_dim")
    lambda_init = DIFFERENTIAL_FIELDS["lambda_init"]
    lambda_std = Field(Number(0, exclusive=True), "Spread of the vectors.", 0.1, "size", "lambda_std_dev")
    norm_eps = Field(EPS, "Added to the mean square in the heads' norm.", role="size", config="difference_norm_eps")
    attn_drop = Field(Number(0, 1), "Dropout on the attention weights.", 0.0, "train", "attention_dropout")
    scale = Field(Number(0, exclusive=True), "Factor on the scores.", None, "size", "attention_multiplier")
    softcap = Field(Number(0, exclusive=True, nullable=True), "Cap on scores.", None, "size", "attn_logit_softcapping")
    window = Field(Integer(2, nullable=True), "Tokens a query sees.", None, "size", "sliding_window")

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("attention", "differential", *masked_traits(op))

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        allowed = (*PLAIN, "n_heads", "n_kv_heads", "head_dim", "window_mode", "rope", "differential")
        reasons = {"kv": "layers of differential attention make keys and values each"}
        refuse_other_keys(values, allowed, "differential attention", report, reasons)
        check_window(values, report)
        heads = resolve_heads(values, context, report)
        if heads is None:
            return None
        check_pairs(heads, values, context, report)
        given = values.get("differential")
        own = {name: given.get(name, field.default) for name, field in DIFFERENTIAL_FIELDS.items()}
        own["norm_eps"] = float(own["norm_eps"] or context.norm_eps("norm.rms"))
        attributes = {**heads, **own, **plain_options(values)}
        attributes["rope"] = resolve_rope(values, context, heads["head_dim"], report)
        attributes["alibi"] = resolve_alibi(values, context, report)
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def carries(cls, op: Op) -> tuple[StateType, ...]:
        return attention_state(op, op["head_dim"])

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        width = op["head_dim"]
        queries, keys = op["n_heads"] * width, op["n_kv_heads"] * width
        spread = Init("normal", Decimal(str(cls.option(op, "lambda_std"))))
        tensors = (
            *linear("q_proj", hidden_size, queries, op["qkv_bias"], std),
            *linear("k_proj", hidden_size, keys, op["qkv_bias"], std),
            *linear("v_proj", hidden_size, keys, op["qkv_bias"], std),
            *linear("o_proj", queries, hidden_size, op["out_bias"], std),
            *(LocalTensor(f"lambda_{name}", (width,), spread) for name in ("q1", "k1", "q2", "k2")),
        )
        norm = (
            (LocalTensor("difference_norm.weight", (2 * width,), Init("ones")),)
            if cls.option(op, "norm_weight")
            else ()
        )
        return (*tensors, *norm)

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        queries, keys = op["n_heads"] * op["head_dim"], op["n_kv_heads"] * op["head_dim"]
        return Cost(hidden_size * (2 * queries + 2 * keys), 3 * queries, **seen_pairs(op))

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        facts = attention_facts(op) | {"lambda_init": cls.option(op, "lambda_init") is not None}
        norm = Op("norm.rms", attributes={"eps": op["norm_eps"], "weight": cls.option(op, "norm_weight")})
        slots = attention_slots(op) | {"difference_norm": norm}
        spread = dict.fromkeys(("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"), "normal lambda_std_dev")
        return ClassBinding(
            "differential_attention", "DifferentialAttention", facts, slots, base="Attention", init=spread
        )

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return attention_config(cls, op)


def check_pairs(heads: dict[str, int], values: Values, context: ModelContext, report: Report) -> None:
    """Heads come in pairs, one of each half, and so do keys and values."""
    if heads["n_kv_heads"] % 2 == 0:
        return
    kv_heads = int(heads["n_kv_heads"])
    report.error(
        "E0396",
        f"{kv_heads} key/value heads do not pair",
        values.where("differential"),
        "subtracts half of the heads from the other half",
        secondary=((values.origin("n_kv_heads", context), "the number of key/value heads"),),
        help=f"an even number, like {kv_heads + 1 if int(heads['n_heads']) % (kv_heads + 1) == 0 else 2}",
    )
