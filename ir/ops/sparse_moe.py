"""`ffn.moe`: a router, its chosen gated experts, and shared experts beside them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, register
from eulerc.ir.divisors import nearest_divisor
from eulerc.ir.feed_forward import LEVEL_FIELDS, resolve_activation, resolve_width
from eulerc.ir.fields import Block, Choice, Field, Flag, Integer, Number
from eulerc.ir.ops.gated_mlp import gated_tensors
from eulerc.ir.tensors import Init

SCORES = {
    "softmax": "softmax over all experts (Switch Transformer)",
    "sigmoid": "each expert by itself (DeepSeek-V3, eq. 15)",
    "sqrt_softplus": "square root of softplus (DeepSeek-V4)",
}

DTYPE = Choice(meanings={"float32": "float32 in a model of any dtype", "model": "that of the model"})

GROUP_FIELDS: dict[str, Field] = {
    "count": Field(Integer(), "Groups that the experts are split into."),
    "limit": Field(Integer(), "Groups a token may choose experts from."),
    "score": Field(
        Choice(meanings={"top2": "sum of the two best experts (DeepSeek-V3)", "max": "the best expert (DeepSeek-V2)"}),
        "What ranks a group.",
        "top2",
    ),
}

CORRECTION_FIELDS: dict[str, Field] = {
    "enabled": Field(Flag(), "Add a per-expert bias to the scores when choosing, not when weighting.", True),
    "update_rate": Field(
        Number(0), "Step of the bias after each training step, by the sign of the load's deviation.", 0.001, "train"
    ),
    "target_imbalance": Field(
        Number(0), "Relative deviation of an expert's load from the mean that leaves its bias alone.", 0.0, "train"
    ),
    "dtype": Field(DTYPE, "Dtype in which the bias is kept.", "float32"),
}


@register
class SparseMoe(Definition):
    """Mixture of experts (Shazeer et al. 2017), token choice; group limit and bias as in DeepSeek-V3 (eqs. 12-16)."""

    name = "ffn.moe"
    axis, yaml_type, block = "ffn", "moe", "moe"
    module_name = "mlp"
    title = "Mixture of experts"
    spelled = {"score": "ffn.moe.affinity"}
    implicit = {
        "normalize": True,
        "scale": None,
        "router_float32": False,
        "weights_dtype": "float32",
        "z_loss": 0.0,
        "router_jitter": 0.0,
        "router_init_std": None,
        "groups": None,
        "bias_correction": None,
        "shared_size": 0,
    }
    level_fields = LEVEL_FIELDS

    experts = Field(Integer(maximum=65536), "Routed experts.", role="size", config="num_experts")
    top_k = Field(Integer(), "Experts a token uses.", role="size", config="num_experts_per_tok")
    expert_size = Field(
        Integer(), "Width of one expert; the ffn's width if not set.", None, "size", "moe_intermediate_size"
    )
    router = Field(
        Choice(meanings={k: SCORES[k] for k in ("softmax", "sigmoid")}), "How logits become scores.", "softmax"
    )
    affinity = Field(Choice(meanings=SCORES), "How logits become scores; over `router` when set.", None)
    normalize = Field(Flag(), "Divide the chosen weights by their sum.", True)
    scale = Field(Number(0, exclusive=True), "Factor on the routed weights.", None, "size", "routed_scaling_factor")
    groups = Field(Block(fields=GROUP_FIELDS), "Group-limited choice of experts.", None)
    bias_correction = Field(
        Block(fields=CORRECTION_FIELDS), "Balance by a bias instead of a loss (Wang et al. 2024).", None
    )
    router_float32 = Field(Flag(), "Compute the router's logits in float32.", False)
    weights_dtype = Field(DTYPE, "Dtype in which the routed weights reach the experts.", "float32")
    shared_experts = Field(Integer(0), "Experts that every token uses, merged into one wide unit.", 0)
    shared_size = Field(
        Integer(),
        "Width of all shared experts together; shared_experts * expert_size if not set.",
        None,
        "size",
        "shared_expert_intermediate_size",
    )
    load_balance_coef = Field(
        Number(0),
        "Weight of the load-balancing loss; training_hints.router_aux_loss_coef if not set.",
        None,
        "train",
        "router_aux_loss_coef",
    )
    z_loss = Field(Number(0), "Weight of the router z-loss (ST-MoE, eq. 5).", 0.0, "train", "router_z_loss_coef")
    router_jitter = Field(
        Number(0, 1), "Multiplicative noise on the router's input, in training.", 0.0, "train", "router_jitter_noise"
    )
    router_init_std = Field(
        Number(0, exclusive=True), "Standard deviation of the router's weights at init.", None, "train"
    )

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        activation = resolve_activation(values, True, report)
        size = resolve_size(values, context, report)
        shared = resolve_shared(values, size, report)
        groups = values.get("groups")
        check_choice(values, groups, report)
        check_correction(values, report)
        if activation is None or size is None:
            return None
        if values.get("bias"):
            report.error(
                "E0325", "experts have no biases", values.where("bias"), "not read by moe", help="set bias to false"
            )
        names = (
            "experts",
            "top_k",
            "normalize",
            "scale",
            "router_float32",
            "weights_dtype",
            "z_loss",
            "router_jitter",
            "router_init_std",
        )
        attributes: dict[str, Any] = {name: values.value(name) for name in names}
        coefficient = values.get("load_balance_coef")
        attributes |= {
            "expert_size": size,
            "activation": activation,
            "score": values.get("affinity") or values.value("router"),
            "groups": groups and {name: groups.get(name, field.default) for name, field in GROUP_FIELDS.items()},
            "bias_correction": correction(values),
            "shared_size": shared,
            "load_balance_coef": context.hint("router_aux_loss_coef") if coefficient is None else coefficient,
        }
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        experts, size = op["experts"], op["expert_size"]
        router_std = Init("normal", Decimal(str(op["router_init_std"]))) if op["router_init_std"] else std
        tensors = [LocalTensor("gate.weight", (experts, hidden_size), router_std)]
        if op["bias_correction"] is not None:
            dtype = None if op["bias_correction"]["dtype"] == "model" else "float32"
            tensors.append(LocalTensor("gate.e_score_correction_bias", (experts,), Init("zeros"), dtype, buffer=True))
        tensors.append(LocalTensor("experts.gate_up_proj", (experts, 2 * size, hidden_size), std))
        tensors.append(LocalTensor("experts.down_proj", (experts, hidden_size, size), std))
        if op["shared_size"]:
            shared = gated_tensors(hidden_size, op["shared_size"], False, std)
            tensors += [LocalTensor(f"shared_experts.{t.name}", t.shape, t.init) for t in shared]
        return tuple(tensors)

    @classmethod
    def active(cls, op: Op, name: str, numel: int) -> int:
        return numel // op["experts"] * op["top_k"] if name.startswith("experts.") else numel

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        routed = op["top_k"] * 3 * hidden_size * op["expert_size"]
        return Cost(op["experts"] * hidden_size + routed + 3 * hidden_size * (op["shared_size"] or 0))

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        facts = {
            "router_score": op["score"],
            "norm_topk_prob": op["normalize"],
            "routed_scaling_factor": op["scale"] is not None,
            "n_group": op["groups"] is not None,
            "group_score": op["groups"] and op["groups"]["score"],
            "router_bias": op["bias_correction"] is not None,
            "router_in_float32": op["router_float32"],
            "router_weights_dtype": op["weights_dtype"],
            "shared_experts": bool(op["shared_size"]),
            "router_jitter_noise": op["router_jitter"] > 0,
            "takes_intermediate_size": True,
            "mlp_bias": False,
        }
        return ClassBinding("sparse_moe", "SparseMoe", facts, {})

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "num_experts": op["experts"],
            "num_experts_per_tok": op["top_k"],
            "moe_intermediate_size": op["expert_size"],
            "hidden_act": op["activation"],
        }
        optional = {
            "routed_scaling_factor": op["scale"],
            "shared_expert_intermediate_size": op["shared_size"] or None,
            "n_group": op["groups"] and op["groups"]["count"],
            "topk_group": op["groups"] and op["groups"]["limit"],
            "router_aux_loss_coef": op["load_balance_coef"] or None,
            "router_z_loss_coef": op["z_loss"] or None,
            "router_jitter_noise": op["router_jitter"] or None,
        }
        return fields | {name: value for name, value in optional.items() if value is not None}


def resolve_size(values: Values, context: ModelContext, report: Report) -> int | None:
    """Width of one expert: `expert_size`, else the width of feed-forward layers."""
    size = values.get("expert_size")
    for key in ("intermediate_size", "mlp_ratio"):
        if size is not None and key in values:
            report.error(
                "E0338",
                f"expert_size and {key} together",
                values.where(key),
                "also sets the experts' width",
                secondary=((values.where("expert_size"), "the experts' width, set here"),),
                help="keep one of the two",
            )
    return size if size is not None else resolve_width(values, context, report)


def correction(values: Values) -> dict[str, Any] | None:
    """The bias correction's settings; None where it is absent or disabled."""
    given = values.get("bias_correction")
    if given is None or not given.get("enabled", True):
        return None
    return {
        name: given.get(name, CORRECTION_FIELDS[name].default) for name in ("update_rate", "target_imbalance", "dtype")
    }


def check_correction(values: Values, report: Report) -> None:
    """A correction that is off has no settings."""
    given = values.get("bias_correction") or {}
    for key in ("update_rate", "target_imbalance"):
        if given.get("enabled") is False and key in given:
            report.error(
                "E0345",
                f"{key} of a bias correction that is off",
                values.where(f"bias_correction.{key}"),
                "has no effect",
                help=f"set enabled to true, or take {key} out",
            )


def resolve_shared(values: Values, size: int | None, report: Report) -> int:
    """Width of the shared experts, 0 without any."""
    count = values.value("shared_experts")
    if values.get("shared_size") is not None and not count:
        report.error(
            "E0326",
            "shared_size without shared experts",
            values.where("shared_size"),
            "there is nothing of this width",
            help="add `shared_experts: 1`, or take shared_size out",
        )
    return int(values.get("shared_size") or count * (size or 0)) if count else 0


def check_choice(values: Values, groups: dict[str, Any] | None, report: Report) -> None:
    """A token cannot choose more experts than it may see."""
    experts, top_k = values.get("experts"), values.get("top_k")
    if top_k > experts:
        report.error(
            "E0327",
            f"top_k {top_k} of {experts} experts",
            values.where("top_k"),
            f"more than the {experts} there are",
            secondary=((values.where("experts"), "experts, set here"),),
            help=f"top_k can be 1 to {experts}",
        )
    if groups is not None:
        check_groups(values, experts, top_k, groups, report)
    if values.get("affinity") is not None and "router" in values and values.get("affinity") != values.get("router"):
        report.error(
            "E0328",
            f"affinity {values.get('affinity')} and router {values.get('router')} disagree",
            values.where("affinity"),
            "also says how logits become scores",
            secondary=((values.where("router"), "says it too"),),
            help="keep one of the two",
        )


def check_groups(values: Values, experts: int, top_k: int, groups: dict[str, Any], report: Report) -> None:
    count, limit = groups["count"], groups["limit"]
    if experts % count:
        report.error(
            "E0329",
            f"{experts} experts cannot form {count} groups",
            values.where("groups.count"),
            f"{experts} is not a multiple of {count}",
            help=f"count can be {nearest_divisor(experts, count)}",
        )
        return
    if limit > count:
        report.error(
            "E0329",
            f"limit {limit} of {count} groups",
            values.where("groups.limit"),
            f"more than the {count} there are",
            help=f"limit can be 1 to {count}",
        )
    elif limit * (experts // count) < top_k:
        report.error(
            "E0329",
            f"{limit} groups of {experts // count} experts cannot give top_k {top_k}",
            values.where("groups.limit"),
            f"leaves {limit * (experts // count)} experts to choose from",
            help=f"raise limit to {-(-top_k * count // experts)}",
        )
    if groups.get("score", "top2") == "top2" and experts // count < 2:
        report.error(
            "E0329",
            "groups of one expert have no two best",
            values.where("groups.count"),
            "one expert a group",
            help="use `score: max`, or fewer groups",
        )
