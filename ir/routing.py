"""Routers: how the experts of a token are chosen and weighed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from eulerc.ir.context import Report, Values
from eulerc.ir.definition import ClassBinding, LocalTensor
from eulerc.ir.divisors import nearest_divisor
from eulerc.ir.fields import Block, Choice, Either, Field, Flag, Integer, Number
from eulerc.ir.norms import NORM_FIELDS
from eulerc.ir.tensors import Init

SCORES = {
    "softmax": "softmax over all experts (Switch Transformer)",
    "sigmoid": "each expert by itself (DeepSeek-V3, eq. 15)",
    "sqrt_softplus": "square root of softplus (DeepSeek-V4)",
}

DTYPE = Choice(meanings={"float32": "float32 in a model of any dtype", "model": "that of the model"})

GROUP_FIELDS: dict[str, Field] = {
    "count": Field(Integer(), "Groups that the experts are split into."),
    "limit": Field(Integer(), "Groups a token may choose experts from.", None),
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

NORMALIZE_FIELDS: dict[str, Field] = {
    "eps": Field(Number(0, exclusive=True), "Added to the sum.", None, "size", "router_norm_eps"),
    "floor": Field(Number(0, exclusive=True), "Least value of the sum (ERNIE 4.5).", None, "size", "router_norm_floor"),
    "power": Field(
        Number(0, exclusive=True),
        "Divide by the norm of this power in place of the sum (DBRX).",
        None,
        "size",
        "router_norm_power",
    ),
}

ROUTING_FIELDS: dict[str, Field] = {
    "type": Field(
        Choice(
            meanings={
                "learned": "by the router's scores",
                "hash": "by the token's id; the scores weigh only (Roller et al. 2021)",
                "sparsemixer": "two experts, drawn in training (Liu et al. 2024; Phi-3.5-MoE)",
            }
        ),
        "How experts are chosen.",
    ),
    "hash_salt": Field(Integer(0, 2**31 - 1), "Added to ids before they are hashed.", None, "size", "router_hash_salt"),
    "threshold": Field(
        Number(0, exclusive=True),
        "sparsemixer: experts further than twice this from the best, relative to their size, have no weight.",
        None,
        "size",
        "sparse_mixer_threshold",
    ),
}

BALANCE_FIELDS: dict[str, Field] = {
    "sequence_aux_coef": Field(
        Number(0),
        "Weight of the balance loss of each sequence by itself (DeepSeek-V3, eq. 17).",
        0.0,
        "train",
        "router_sequence_loss_coef",
    ),
    "group_limit": Field(
        Integer(nullable=True), "Groups a token may choose experts from: another place for `groups.limit`.", None
    ),
}

ROUTER_FIELDS: dict[str, Field] = {
    "router": Field(
        Choice(meanings={k: SCORES[k] for k in ("softmax", "sigmoid")}), "How logits become scores.", "softmax"
    ),
    "affinity": Field(Choice(meanings=SCORES), "How logits become scores; over `router` when set.", None),
    "score_over": Field(
        Choice(
            meanings={
                "all": "all experts, of which the best by score are chosen",
                "chosen": "those that have the largest logits (Granite MoE, gpt-oss)",
            }
        ),
        "What is scored.",
        "all",
    ),
    "scores_dtype": Field(DTYPE, "Dtype in which logits become scores.", "float32"),
    "normalize": Field(
        Either(kinds=(Flag(), Block(fields=NORMALIZE_FIELDS))), "Divide the chosen weights by their sum.", True
    ),
    "scale": Field(Number(0, exclusive=True), "Factor on the routed weights.", None, "size", "routed_scaling_factor"),
    "scale_at": Field(
        Choice(meanings={"router": "on the weights", "output": "on the sum of the experts' outputs"}),
        "Where `scale` acts.",
        "router",
    ),
    "groups": Field(Block(fields=GROUP_FIELDS), "Group-limited choice of experts.", None),
    "bias_correction": Field(
        Block(fields=CORRECTION_FIELDS), "Balance by a bias instead of a loss (Wang et al. 2024).", None
    ),
    "router_bias": Field(Flag(), "A trained bias on the logits.", False),
    "router_softcap": Field(
        Number(0, exclusive=True), "Caps the logits at this value by tanh.", None, "size", "router_logit_softcapping"
    ),
    "router_float32": Field(Flag(), "Compute the router's logits in float32.", False),
    "router_dtype": Field(DTYPE, "Dtype in which the router's weights are kept.", "model"),
    "weights_dtype": Field(DTYPE, "Dtype in which the routed weights reach the experts.", "float32"),
    "load_balance_coef": Field(
        Number(0),
        "Weight of the load-balancing loss; training_hints.router_aux_loss_coef if not set.",
        None,
        "train",
        "router_aux_loss_coef",
    ),
    "z_loss": Field(Number(0), "Weight of the router z-loss (ST-MoE, eq. 5).", 0.0, "train", "router_z_loss_coef"),
    "routing": Field(Block(fields=ROUTING_FIELDS), "How experts are chosen; by their scores if not set.", None),
    "balance": Field(Block(fields=BALANCE_FIELDS), "Balance within sequences.", None),
    "capacity_factor": Field(
        Number(0, exclusive=True),
        "Tokens of a row that an expert takes in training, as a multiple of its even share.",
        None,
        "train",
        "expert_capacity_factor",
    ),
    "capacity_drop_policy": Field(
        Choice(
            meanings={
                "overflow": "experts take what comes",
                "drop": "what comes too late is left to the residual stream, in training",
                "pad": "the same: the room that is left over is computed by no one here",
            }
        ),
        "What happens to tokens over an expert's capacity.",
        "overflow",
        "train",
    ),
    "router_norm": Field(Block(fields=NORM_FIELDS), "Norm on what the router reads (Gemma 4).", None),
    "router_gain": Field(
        Flag(), "Trained factors on the channels that the router reads, over the root of d_model (Gemma 4).", False
    ),
    "expert_gain": Field(Flag(), "A trained factor on the weight of each expert (Gemma 4).", False),
    "router_jitter": Field(
        Number(0, 1), "Multiplicative noise on the router's input, in training.", 0.0, "train", "router_jitter_noise"
    ),
    "router_init_std": Field(
        Number(0, exclusive=True), "Standard deviation of the router's weights at init.", None, "train"
    ),
}
"""The keys of `moe` that say how experts are chosen and weighed."""

PLAIN_ROUTER: dict[str, Any] = {
    "score_over": "all",
    "scores_dtype": "float32",
    "normalize": True,
    "scale": None,
    "scale_at": "router",
    "router_bias": False,
    "router_softcap": None,
    "router_float32": False,
    "router_dtype": "model",
    "weights_dtype": "float32",
    "z_loss": 0.0,
    "router_norm": None,
    "router_gain": False,
    "expert_gain": False,
    "router_jitter": 0.0,
    "router_init_std": None,
    "groups": None,
    "bias_correction": None,
    "capacity_factor": None,
    "sequence_aux_coef": 0.0,
    "hash_salt": None,
    "sparse_mixer": None,
}
"""Attributes that the textual IR leaves out where they have these values."""


def resolve_router(values: Values, coefficient: float, report: Report) -> dict[str, Any]:
    """The attributes of a router, checked; `coefficient` is the model-wide weight of the load-balancing loss."""
    groups, own = resolve_groups(values, report), values.get("load_balance_coef")
    _check_choice(values, groups, report)
    _check_capacity(values, report)
    _check_routing(values, report)
    _check_correction(values, report)
    _check_scores(values, report)
    attributes = {name: values.value(name) for name in PLAIN_ROUTER if name in ROUTER_FIELDS}
    routing, balance = values.get("routing") or {}, values.get("balance") or {}
    hashed = routing.get("type") == "hash"
    dropping = values.value("capacity_drop_policy") != "overflow"
    return attributes | {
        "capacity_factor": (values.value("capacity_factor") or 1.0) if dropping else None,
        "sequence_aux_coef": balance.get("sequence_aux_coef", 0.0),
        "hash_salt": routing.get("hash_salt", 0) if hashed else None,
        "sparse_mixer": routing.get("threshold", 0.01) if routing.get("type") == "sparsemixer" else None,
        "score": score_of(values),
        "normalize": _normalize(values),
        "groups": groups and {name: groups.get(name, field.default) for name, field in GROUP_FIELDS.items()},
        "bias_correction": correction(values),
        "load_balance_coef": 0.0 if hashed else coefficient if own is None else own,
    }


def resolve_groups(values: Values, report: Report) -> dict[str, Any] | None:
    """The groups of experts; their limit may stand under `balance`, and there are at most eight if nothing is said."""
    groups, limit = values.get("groups"), (values.get("balance") or {}).get("group_limit")
    if limit is None and (groups is None or groups.get("limit") is not None):
        return groups  # type: ignore[no-any-return]
    if limit is None or (groups is not None and groups.get("limit") is not None):
        report.error(
            "E0473",
            "groups without a limit" if limit is None else "balance.group_limit and groups.limit together",
            values.where("groups" if limit is None else "balance.group_limit"),
            "nothing limits the choice" if limit is None else "also says how many groups a token may choose from",
            help="set groups.limit" if limit is None else "keep one of the two",
        )
        return None
    experts = values.get("experts")
    count = next(number for number in range(min(8, experts), 0, -1) if experts % number == 0)
    return {"count": count, "score": "top2" if experts // count > 1 else "max", **(groups or {}), "limit": limit}


def _check_capacity(values: Values, report: Report) -> None:
    if values.get("capacity_factor") is not None and values.value("capacity_drop_policy") == "overflow":
        report.warning(
            "W0471",
            f"capacity_factor {values.get('capacity_factor')} without a capacity",
            values.where("capacity_factor"),
            "has no effect: experts take what comes",
            help="set `capacity_drop_policy: drop`, or take capacity_factor out",
        )


def _check_routing(values: Values, report: Report) -> None:
    """A hash has a salt, and chooses without scores; other routers hash nothing."""
    routing = values.get("routing")
    if routing is None:
        return
    hashed, mixes = routing.get("type") == "hash", routing.get("type") == "sparsemixer"
    if mixes:
        _check_mixer(values, report)
    elif "threshold" in routing:
        report.error(
            "E0478",
            f"threshold with routing {routing.get('type')}",
            values.where("routing.threshold"),
            "nothing is drawn",
            help="take threshold out, or set type to sparsemixer",
        )
    if hashed != ("hash_salt" in routing):
        report.error(
            "E0474",
            f"{'no ' if hashed else ''}hash_salt with routing {routing.get('type')}",
            values.where("routing"),
            "needs a salt" if hashed else "hashes nothing",
            help="add `hash_salt: 0`" if hashed else "take hash_salt out, or set type to hash",
        )
    for key in ("groups", "bias_correction", "score_over", "balance", "z_loss", "load_balance_coef") if hashed else ():
        if values.get(key) or values.get(key) == {}:
            report.error(
                "E0475",
                f"{key} with experts chosen by a hash",
                values.where(key),
                "nothing that is learned chooses experts",
                secondary=((values.where("routing"), "the hash, set here"),),
                help=f"take {key} out",
            )


MIXER_KEYS = (
    "router_norm",
    "router_gain",
    "expert_gain",
    "z_loss",
    "router_jitter",
    "router_init_std",
    "load_balance_coef",
    "routing",
    "balance",
    "scale",
)
"""What a sparse mixer reads of the keys about routers; its capacity too."""


def _check_mixer(values: Values, report: Report) -> None:
    """A sparse mixer chooses two experts and weighs them in its own way."""
    if values.get("top_k") != 2:
        report.error(
            "E0476",
            f"top_k {values.get('top_k')} with a sparse mixer",
            values.where("top_k"),
            "chooses two experts",
            secondary=((values.where("routing"), "sparsemixer, set here"),),
            help="set top_k to 2",
        )
    idle = [name for name in ROUTER_FIELDS if name not in MIXER_KEYS and not name.startswith("capacity")]
    for key in (*idle, "identity_experts"):
        at_output = key == "scale_at" and values.get(key) == "output"
        if key in values and not at_output:
            report.error(
                "E0477",
                f"{key} with a sparse mixer",
                values.where(key),
                "is not read",
                secondary=((values.where("routing"), "sparsemixer, set here"),),
                help=f"take {key} out",
            )
    if values.get("scale") is not None and values.value("scale_at") != "output":
        report.error(
            "E0477",
            "scale with a sparse mixer",
            values.where("scale"),
            "its weights are not scaled",
            help="add `scale_at: output`",
        )


def score_of(values: Values) -> str:
    """How logits become scores."""
    return str(values.get("affinity") or values.value("router"))


def _normalize(values: Values) -> bool | dict[str, Any]:
    given = values.value("normalize")
    if not isinstance(given, dict):
        return bool(given)
    return {name: float(given[name]) for name in NORMALIZE_FIELDS if given.get(name) is not None} or True


def router_tensors(op: Mapping[str, Any], hidden_size: int, std: Init) -> list[LocalTensor]:
    """Weight, trained bias, correction."""
    count = op["experts"] + (op["identity_experts"] or 0)
    router_std = Init("normal", Decimal(str(op["router_init_std"]))) if op["router_init_std"] else std
    kept = "float32" if op["router_dtype"] == "float32" else None
    tensors = [LocalTensor("gate.weight", (count, hidden_size), router_std, kept)]
    if op["router_bias"]:
        tensors.append(LocalTensor("gate.bias", (count,), Init("zeros"), kept))
    if op["router_gain"]:
        tensors.append(LocalTensor("router_scale", (hidden_size,), Init("ones"), kept))
    if op["expert_gain"]:
        tensors.append(LocalTensor("expert_scale", (count,), Init("ones"), kept))
    if op["bias_correction"] is not None:
        dtype = None if op["bias_correction"]["dtype"] == "model" else "float32"
        tensors.append(LocalTensor("gate.e_score_correction_bias", (count,), Init("zeros"), dtype, buffer=True))
    return tensors


def router_binding(op: Mapping[str, Any]) -> ClassBinding:
    """The router's class."""
    facts: dict[str, Any] = {
        "router_score": op["score"],
        "router_norm": _norm_kind(op),
        "router_in_float32": op["router_float32"],
        "router_scores_in_float32": op["scores_dtype"] == "float32",
        "router_weights_dtype": op["weights_dtype"],
        "router_bias": op["router_bias"],
        "router_logit_softcapping": op["router_softcap"] is not None,
        "router_correction": op["bias_correction"] is not None,
        "routed_scaling_factor": op["scale"] is not None and op["scale_at"] == "router",
        "num_identity_experts": op["identity_experts"] is not None,
    }
    init = {"weight": f"normal {op['router_init_std']}" if op["router_init_std"] else "normal"}
    init |= {"bias": "zeros"} if op["router_bias"] else {}
    init |= {"e_score_correction_bias": "zeros"} if facts["router_correction"] else {}
    if op["sparse_mixer"] is not None:
        return ClassBinding("sparse_mixer_router", "SparseMixerRouter", base="TopKRouter", init=init)
    if op["score_over"] == "chosen":
        return ClassBinding("logit_router", "LogitRouter", facts, base="TopKRouter", init=init)
    facts |= {"hash_routing": op["hash_salt"] is not None}
    facts |= {"n_group": op["groups"] is not None, "group_score": op["groups"] and op["groups"]["score"]}
    return ClassBinding("router", "TopKRouter", facts, init=init)


def _norm_kind(op: Mapping[str, Any]) -> str | None:
    """By what the chosen weights are divided."""
    normalize = op["normalize"]
    if isinstance(normalize, Mapping):
        return next(name for name in NORMALIZE_FIELDS if name in normalize)
    if not normalize or (op["score"] == "softmax" and op["score_over"] == "chosen"):
        return None
    plain = op["score"] == "softmax" and all(op[name] is None for name in ("groups", "bias_correction", "hash_salt"))
    return "sum" if plain else "guarded"


def router_config(op: Mapping[str, Any]) -> dict[str, Any]:
    """Config fields of a router; None for those that it lacks."""
    normalize = op["normalize"] if isinstance(op["normalize"], Mapping) else {}
    return {
        "routed_scaling_factor" if op["scale_at"] == "router" else "experts_scaling_factor": op["scale"],
        "router_logit_softcapping": op["router_softcap"],
        "n_group": op["groups"] and op["groups"]["count"],
        "topk_group": op["groups"] and op["groups"]["limit"],
        "router_aux_loss_coef": op["load_balance_coef"] or None,
        "router_z_loss_coef": op["z_loss"] or None,
        "router_jitter_noise": op["router_jitter"] or None,
        "router_hash_salt": op["hash_salt"],
        "sparse_mixer_threshold": op["sparse_mixer"],
        "router_sequence_loss_coef": op["sequence_aux_coef"] or None,
        "expert_capacity_factor": op["capacity_factor"],
        **{f"router_norm_{name}": value for name, value in normalize.items()},
    }


def correction(values: Values) -> dict[str, Any] | None:
    """The bias correction's settings; None where it is absent or disabled."""
    given = values.get("bias_correction")
    if given is None or not given.get("enabled", True):
        return None
    return {
        name: given.get(name, CORRECTION_FIELDS[name].default) for name in ("update_rate", "target_imbalance", "dtype")
    }


def _check_correction(values: Values, report: Report) -> None:
    """A correction that is off has no settings."""
    given = values.get("bias_correction") or {}
    for key in ("update_rate", "target_imbalance", "dtype"):
        if given.get("enabled") is False and key in given:
            report.error(
                "E0345",
                f"{key} of a bias correction that is off",
                values.where(f"bias_correction.{key}"),
                "has no effect",
                help=f"set enabled to true, or take {key} out",
            )


def _check_scores(values: Values, report: Report) -> None:
    """What the way of scoring leaves without effect."""
    chosen = values.value("score_over") == "chosen"
    if chosen and score_of(values) == "softmax" and isinstance(values.given.get("normalize"), bool):
        report.error(
            "E0462",
            f"normalize {str(values.get('normalize')).lower()} with a softmax over the chosen experts",
            values.where("normalize"),
            "their weights sum to 1 already",
            secondary=((values.where("score_over"), "only the chosen are scored"),),
            help="take normalize out",
        )
    given = values.value("normalize")
    if isinstance(given, dict) and len([name for name in given if given[name] is not None]) > 1:
        first, second = list(given)[:2]
        report.error(
            "E0463",
            f"normalize by {first} and {second}",
            values.where(f"normalize.{second}"),
            "the weights are divided once",
            secondary=((values.where(f"normalize.{first}"), "divided so, here"),),
            help="keep one of them",
        )
    if chosen and values.get("groups") is not None:
        report.error(
            "E0464",
            "groups of experts that are chosen by logits",
            values.where("groups"),
            "groups are ranked by scores",
            secondary=((values.where("score_over"), "only the chosen are scored"),),
            help="take groups out, or set score_over to all",
        )
    for key in ("scores_dtype", "weights_dtype"):
        other = "router_float32" if key == "scores_dtype" else "scores_dtype"
        clash = values.value(other) is True or (key == "weights_dtype" and values.value(other) == "model")
        if clash and values.value(key) == "model":
            report.error(
                "E0465",
                f"{key} model beside {other}",
                values.where(key),
                "the logits are float32" if key == "scores_dtype" else "the scores are of that dtype already",
                secondary=((values.where(other), "set here"),),
                help=f"take {key} out",
            )
    if values.value("router_dtype") == "float32" and not values.value("router_float32"):
        report.error(
            "E0470",
            "router_dtype float32 in a router of the model's dtype",
            values.where("router_dtype"),
            "its logits are not computed in float32",
            help="add `router_float32: true`",
        )
    if "scale_at" in values and values.get("scale") is None:
        report.error(
            "E0466", "scale_at without scale", values.where("scale_at"), "there is no factor", help="add `scale:`"
        )


def _check_choice(values: Values, groups: dict[str, Any] | None, report: Report) -> None:
    """A token cannot choose more experts than it may see."""
    experts, top_k = values.get("experts") + (values.get("identity_experts") or 0), values.get("top_k")
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
        _check_groups(values, experts, top_k, groups, report)
    if values.get("affinity") is not None and "router" in values and values.get("affinity") != values.get("router"):
        report.error(
            "E0328",
            f"affinity {values.get('affinity')} and router {values.get('router')} disagree",
            values.where("affinity"),
            "also says how logits become scores",
            secondary=((values.where("router"), "says it too"),),
            help="keep one of the two",
        )


def _check_groups(values: Values, experts: int, top_k: int, groups: dict[str, Any], report: Report) -> None:
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


def routing_traits(op: Mapping[str, Any]) -> tuple[str, ...]:
    """What routing tells an engine that puts its own in its place, as it does where scores precede the choice."""
    if op["score_over"] == "chosen" or op["router_bias"] or op["score"] == "sqrt_softplus":
        return ()
    groups, ranked = op["groups"], "top2" if op["bias_correction"] is not None else "max"
    normalize = op["normalize"]
    other = (
        op["router_softcap"] is not None
        or op["hash_salt"] is not None
        or op["sparse_mixer"] is not None
        or bool(normalize) != (op["top_k"] > 1)
        or (isinstance(normalize, dict) and normalize.keys() & {"floor", "power"})
        or (groups is not None and groups["score"] != ranked)
        or (op["scale"] is not None and op["scale_at"] == "output")
        or op["weigh_input"]
        or op["expert_gain"]
        or op["shared_average"]
    )
    return ("own_routing",) if other else ()
