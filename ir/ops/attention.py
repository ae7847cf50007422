"""`mixer.attention`: softmax attention with any number of key/value heads (MHA, GQA, MQA)."""

from __future__ import annotations

from typing import Any

from eulerc.ir.attending import (
    PLAIN,
    attention_config,
    attention_facts,
    attention_slots,
    attention_state,
    check_window,
    plain_options,
    resolve_heads,
)
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, StateType
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, definition, linear, register
from eulerc.ir.fields import Block, Choice, Either, Field, Flag, Integer, Number
from eulerc.ir.indexing import INDEXER, refuse_indexer
from eulerc.ir.norms import qk_norm_fields, resolve_qk_norm
from eulerc.ir.ops.differential_attention import DIFFERENTIAL
from eulerc.ir.ops.latent_attention import MLA_FIELDS
from eulerc.ir.positions import ROPE_FIELDS, resolve_rope
from eulerc.ir.tensors import Init

ROPE = Either(
    kinds=(
        Choice(meanings={"none": "no rotation in these layers"}),
        Block(fields=ROPE_FIELDS),
    )
)

KINDS = {
    "latent_dim": "mixer.latent_attention",
    "mla": "mixer.latent_attention",
    "differential": "mixer.differential_attention",
}
"""Keys that make it attention of another kind."""


@register
class Attention(Definition):
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1), grouped keys and values (Ainslie et al. 2023)."""

    name = "mixer.attention"
    axis, yaml_type, block = "mixer", "attention", "attention"
    module_name = "self_attn"
    implicit = {**PLAIN, "qk_norm": None, "rope": None, "alibi": False}

    n_heads = Field(Integer(), "Query heads.", role="size", config="num_attention_heads", inherit="n_heads")
    n_kv_heads = Field(
        Integer(),
        "Key/value heads; as many as query heads if not set.",
        None,
        "size",
        "num_key_value_heads",
        "n_kv_heads",
    )
    head_dim = Field(Integer(), "Width of a head; d_model / n_heads if not set.", None, "size", "head_dim", "head_dim")
    qkv_bias = Field(Flag(), "Biases on the query, key and value projections.", False)
    out_bias = Field(Flag(), "Bias on the output projection.", False)
    attn_drop = Field(Number(0, 1), "Dropout on the attention weights, in training.", 0.0, "train", "attention_dropout")
    scale = Field(
        Number(0, exclusive=True),
        "Factor on the scores; head_dim^-0.5 if not set.",
        None,
        "size",
        "attention_multiplier",
    )
    softcap = Field(
        Number(0, exclusive=True, nullable=True),
        "Caps scores at this value by tanh (Gemma 2).",
        None,
        "size",
        "attn_logit_softcapping",
    )
    window = Field(
        Integer(2, nullable=True),
        "Tokens a query sees, itself included; null for all.",
        None,
        "size",
        "sliding_window",
        unit="tokens",
    )
    window_mode = Field(
        Choice(meanings={"standard": "the last `window` tokens", "sliding": "the same, by its other name"}),
        "Which tokens of the past the window admits.",
        "standard",
    )
    qk_norm = Field(
        Either(
            kinds=(
                Choice(meanings={"head": "RMSNorm over each head", "full": "RMSNorm over the whole projection"}),
                Block(fields=qk_norm_fields()),
            )
        ),
        "Norm on queries and keys, before the rotation.",
        None,
    )
    rope = Field(ROPE, "Rope of these layers, over the model-wide one; `none` for no rotation.", None)
    latent_dim = Field(Integer(nullable=True), "Multi-head latent attention with this rank for keys and values.", None)
    mla = Field(Block(fields=MLA_FIELDS), "Multi-head latent attention in full.", None)
    indexer = INDEXER
    differential = DIFFERENTIAL

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        for key, kind in KINDS.items():
            if values.get(key) is not None:
                return definition(kind).lower(values, context, report)
        refuse_indexer(values, report)
        heads = resolve_heads(values, context, report)
        if heads is None:
            return None
        check_window(values, report)
        attributes = {**heads, **plain_options(values)}
        attributes["qk_norm"] = resolve_qk_norm(values, context, report)
        attributes["rope"] = resolve_rope(values, context, heads["head_dim"], report)
        attributes["alibi"] = context.positional == "alibi"
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def carries(cls, op: Op) -> tuple[StateType, ...]:
        return attention_state(op["n_kv_heads"], op["head_dim"], op["window"])

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        queries, keys = op["n_heads"] * op["head_dim"], op["n_kv_heads"] * op["head_dim"]
        tensors = [
            *linear("q_proj", hidden_size, queries, op["qkv_bias"], std),
            *linear("k_proj", hidden_size, keys, op["qkv_bias"], std),
            *linear("v_proj", hidden_size, keys, op["qkv_bias"], std),
            *linear("o_proj", queries, hidden_size, op["out_bias"], std),
        ]
        norm = op["qk_norm"]
        if norm is not None:
            query_width, key_width = (queries, keys) if norm["over"] == "full" else (op["head_dim"],) * 2
            kind = definition(norm["norm"])
            norm_op = Op(norm["norm"], attributes=norm)
            for name, width in (("q_norm", query_width), ("k_norm", key_width)):
                tensors += [LocalTensor(f"{name}.{t.name}", t.shape, t.init) for t in kind.tensors(norm_op, width, std)]
        return tuple(tensors)

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        queries, keys = op["n_heads"] * op["head_dim"], op["n_kv_heads"] * op["head_dim"]
        return Cost(hidden_size * (2 * queries + 2 * keys), 2 * queries, op["window"])

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        norm = op["qk_norm"]
        return ClassBinding(
            "attention", "Attention", attention_facts(op) | {"qk_norm": norm and norm["over"]}, attention_slots(op)
        )

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return attention_config(cls, op)
