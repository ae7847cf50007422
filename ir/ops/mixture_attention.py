"""`mixer.mixture_attention`: each token attends with the query heads of a few experts (Zhang et al. 2022; JetMoE)."""

from __future__ import annotations

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
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, definition, linear, register
from eulerc.ir.divisors import nearest_divisor
from eulerc.ir.fields import Block, Field, Integer, Number
from eulerc.ir.norms import resolve_qk_norm
from eulerc.ir.positions import resolve_rope
from eulerc.ir.tensors import Init

MIXTURE_FIELDS: dict[str, Field] = {
    "experts": Field(
        Integer(maximum=65536), "Experts: maps to queries and back.", role="size", config="num_attention_experts"
    ),
    "top_k": Field(Integer(), "Experts a token uses.", role="size", config="num_attention_experts_per_tok"),
    "recorded": Field(
        Integer(0, 2),
        "How often a router's logits are recorded, and so count in the losses on them; twice in the library's JetMoE.",
        1,
    ),
    "load_balance_coef": Field(
        Number(0),
        "Weight of the load-balancing loss; training_hints.router_aux_loss_coef if not set.",
        None,
        "train",
        "router_aux_loss_coef",
    ),
    "z_loss": Field(Number(0), "Weight of the router z-loss (ST-MoE, eq. 5).", 0.0, "train", "router_z_loss_coef"),
}

MIXTURE = Field(
    Block(fields=MIXTURE_FIELDS),
    "A token attends with the query heads of the experts that its router chooses (JetMoE).",
    None,
)

REASONS = {
    "kv": "layers of attention by experts make keys and values each: take kv out",
    "qkv_bias": "experts map to queries without a bias: take qkv_bias out",
    "attention_sinks": "a head belongs to another expert for every token: take attention_sinks out",
    "output_gate": "the router's weights are the gates: take output_gate out",
}
"""What to do about some keys that do not combine."""


@register
class MixtureAttention(Definition):
    """Attention whose query and output projections are experts; keys and values are shared (Zhang et al. 2022)."""

    name = "mixer.mixture_attention"
    axis = "mixer"
    module_name = "self_attn"
    implicit = {
        **PLAIN,
        "recorded": 1,
        "router_float32": False,
        "load_balance_coef": 0.0,
        "z_loss": 0.0,
        "qk_norm": None,
        "rope": None,
        "alibi": False,
    }
    spelled = {name: f"mixer.attention.mixture.{name}" for name in MIXTURE_FIELDS} | {
        name: f"mixer.attention.{name}" for name in (*PLAIN, "n_heads", "n_kv_heads", "head_dim", "qk_norm", "rope")
    }
    spelled |= {"router_float32": "compatibility.dtype_policy"}

    n_heads = Field(Integer(), "Query heads a token uses.", role="size", config="num_attention_heads")
    n_kv_heads = Field(
        Integer(), "Key/value heads, and query heads of an expert.", role="size", config="num_key_value_heads"
    )
    head_dim = Field(Integer(), "Width of a head.", role="size", config="head_dim")
    experts = MIXTURE_FIELDS["experts"]
    top_k = MIXTURE_FIELDS["top_k"]
    attn_drop = Field(Number(0, 1), "Dropout on the attention weights.", 0.0, "train", "attention_dropout")
    scale = Field(Number(0, exclusive=True), "Factor on the scores.", None, "size", "attention_multiplier")
    softcap = Field(Number(0, exclusive=True, nullable=True), "Cap on scores.", None, "size", "attn_logit_softcapping")
    window = Field(Integer(2, nullable=True), "Tokens a query sees.", None, "size", "sliding_window")

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("attention", "mixture", *masked_traits(op))

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        allowed = (*PLAIN, "n_heads", "n_kv_heads", "head_dim", "qk_norm", "rope", "mixture")
        refuse_other_keys(values, tuple(key for key in allowed if key not in REASONS), KIND, report, REASONS)
        check_window(values, report)
        mixture = {name: values.get("mixture").get(name, field.default) for name, field in MIXTURE_FIELDS.items()}
        check_choice(mixture, values, report)
        heads = resolve_mixture_heads(mixture, values, context, report)
        if heads is None:
            return None
        attributes = {**heads, **resolve_losses(mixture, values, context, report), **plain_options(values)}
        attributes["qk_norm"] = resolve_qk_norm(values, context, report)
        attributes["rope"] = resolve_rope(values, context, heads["head_dim"], report)
        check_norm(attributes, values, report)
        attributes["router_float32"] = context.layered_safe
        attributes["alibi"] = resolve_alibi(values, context, report)
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def carries(cls, op: Op) -> tuple[StateType, ...]:
        return attention_state(op, op["head_dim"])

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        width, experts = op["n_kv_heads"] * op["head_dim"], op["experts"]
        tensors = [
            LocalTensor("q_experts", (experts, width, hidden_size), std),
            LocalTensor("o_experts", (experts, hidden_size, width), std),
            LocalTensor("router.weight", (experts, hidden_size), std, "float32" if op["router_float32"] else None),
            *linear("k_proj", hidden_size, width, False, std),
            *linear("v_proj", hidden_size, width, False, std),
        ]
        if op["out_bias"]:
            tensors.append(LocalTensor("o_bias", (hidden_size,), Init("zeros")))
        norm = op["qk_norm"]
        for name in ("q_norm", "k_norm") if norm is not None else ():
            inner = definition(norm["norm"]).tensors(Op(norm["norm"], attributes=norm), op["head_dim"], std)
            tensors += [LocalTensor(f"{name}.{tensor.name}", tensor.shape, tensor.init) for tensor in inner]
        return tuple(tensors)

    @classmethod
    def active(cls, op: Op, name: str, numel: int) -> int:
        return numel // op["experts"] * op["top_k"] if name.endswith("_experts") else numel

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        width = op["n_kv_heads"] * op["head_dim"]
        queries = op["top_k"] * width
        return Cost(hidden_size * (2 * queries + 2 * width + op["experts"]), 2 * queries, **seen_pairs(op))

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        norm = op["qk_norm"]
        facts = {name: fact for name, fact in attention_facts(op).items() if name != "attention_bias"}
        facts |= {
            "attention_router_in_float32": op["router_float32"],
            "qk_norm": norm and norm["over"],
            "norm_after_rope": norm is not None and norm.get("place") == "after_rope",
        }
        init = {"q_experts": "normal", "o_experts": "normal", "AttentionRouter.weight": "normal"}
        init |= {"o_bias": "zeros"} if op["out_bias"] else {}
        return ClassBinding(
            "mixture_attention",
            "MixtureAttention",
            facts,
            attention_slots(op),
            base="Attention",
            init=init,
            parts=("AttentionRouter",),
        )

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        coefficients = {"router_aux_loss_coef": op["load_balance_coef"], "router_z_loss_coef": op["z_loss"]}
        return attention_config(cls, op) | {name: value for name, value in coefficients.items() if value}


KIND = "attention by experts"


def check_choice(mixture: dict[str, Any], values: Values, report: Report) -> None:
    """A token cannot choose more experts than there are."""
    experts, top_k = mixture["experts"], mixture["top_k"]
    if top_k > experts:
        report.error(
            "E0327",
            f"top_k {top_k} of {experts} experts",
            values.where("mixture.top_k"),
            f"more than the {experts} there are",
            secondary=((values.where("mixture.experts"), "experts, set here"),),
            help=f"top_k can be 1 to {experts}",
        )


def resolve_mixture_heads(
    mixture: dict[str, Any], values: Values, context: ModelContext, report: Report
) -> dict[str, Any] | None:
    """Heads, and the numbers of experts: every expert has a query head for each key/value head."""
    heads, top_k = resolve_heads(values, context, report), mixture["top_k"]
    if heads is None:
        return None
    count = int(heads["n_heads"])
    derived = values.or_inherited("n_kv_heads", context) is None
    if derived and count % top_k == 0:
        heads["n_kv_heads"] = count // top_k
    kv_heads = int(heads["n_kv_heads"])
    if count != top_k * kv_heads:
        choice = nearest_divisor(count, top_k) if derived else count // kv_heads
        report.error(
            "E0386",
            f"{count} query heads cannot be those of {top_k} experts",
            values.where("mixture.top_k"),
            f"{count} is not a multiple of {top_k}" if derived else f"{top_k} experts have {top_k * kv_heads} heads",
            secondary=(
                (values.origin("n_heads", context), "the query heads of a token"),
                *(() if derived else ((values.origin("n_kv_heads", context), "the query heads of an expert"),)),
            ),
            help=f"set top_k to {choice}, or n_heads to {top_k * (1 if derived else kv_heads)}",
        )
        return None
    return {**heads, "experts": mixture["experts"], "top_k": top_k}


def resolve_losses(mixture: dict[str, Any], values: Values, context: ModelContext, report: Report) -> dict[str, Any]:
    """What the router's logits cost; nothing where they are not recorded."""
    hinted, own = context.hint("router_aux_loss_coef"), mixture["load_balance_coef"]
    if mixture["recorded"]:
        losses = {"load_balance_coef": hinted if own is None else own, "z_loss": mixture["z_loss"]}
        return {"recorded": mixture["recorded"], **losses}
    for key in ("load_balance_coef", "z_loss"):
        if mixture[key]:
            report.error(
                "E0389",
                f"{key} of logits that are not recorded",
                values.where(f"mixture.{key}"),
                "has no effect",
                secondary=((values.where("mixture.recorded"), "never recorded, set here"),),
                help=f"set recorded to 1, or take {key} out",
            )
    return {"recorded": 0, "load_balance_coef": 0.0, "z_loss": 0.0}


def check_norm(attributes: dict[str, Any], values: Values, report: Report) -> None:
    """Heads share the weight of their norm, since each is of whichever expert a token chose."""
    norm = attributes["qk_norm"]
    if norm is None:
        return
    if norm["over"] != "head":
        why, help = "a head is of whichever expert was chosen", "normalize each head: `qk_norm: head`"
        report.error("E0388", f"qk_norm over {norm['over']} with {KIND}", values.where("qk_norm"), why, help=help)
    elif norm.get("place") == "after_rope" and attributes["rope"] is None:
        why, help = "nothing rotates in these layers", "take place out"
        report.error("E0363", "a norm after the rotation", values.where("qk_norm.place"), why, help=help)
