"""Families whose sinks are kept in float32: Flint."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import BIASED, LIBRARY, block, document

SPARSE = "layer_templates.*.ffn.moe"
HEADS = {
    "qk_norm": {"float32_weight": True},
    "attention_sinks": {"dtype": "float32"},
    "score_dtype": "float32",
}
ROUTED = {
    "experts": 4,
    "top_k": 2,
    "expert_size": 32,
    "router": "sigmoid",
    "router_float32": True,
    "router_dtype": "float32",
    "shared_experts": 1,
    "shared_size": 48,
    "load_balance_coef": 0.0,
}


def layer(
    attention: dict[str, Any], ffn: dict[str, Any] | None = None, unit: str = "swiglu", **moe: Any
) -> dict[str, Any]:
    """One layer; dense if another network is said."""
    network = ffn or {"type": "moe", "moe": {**ROUTED, **moe}}
    return block({**HEADS, **attention}, {"activation": unit, **network}, {"float32_weight": True})


FLINT_SIZES = {
    **LIBRARY,
    "head_dim": 16,
    "sliding_window": 8,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
FLINT = Family(
    name="flint",
    config="FlintConfig",
    model="FlintForCausalLM",
    renames=(Rename(r"(.*\.mlp)\.shared_expert\.(.*)", (r"\1.shared_experts.\2",)),),
    cases={
        "base": Case(
            document(
                "flint_tiny",
                {
                    "dense": layer({"rope": "none"}, {"type": "gated_mlp"}),
                    "local": layer({"window": 8}),
                },
                [{"template": "dense"}, {"template": "local", "repeat": 3}],
                model={"head_dim": 16},
                head=UNTIED,
            ),
            {
                **FLINT_SIZES,
                "mlp_only_layers": [0],
                "layer_types": ["full_attention", *["sliding_attention"] * 3],
            },
        ),
        "biased": Case(
            document(
                "flint_biased",
                {
                    "local": layer({"window": 5, **BIASED}, {"type": "gated_mlp"}, "geglu"),
                    "global": layer({"rope": "none", **BIASED}, None, "geglu", normalize=False, experts=6, top_k=3),
                },
                [{"pattern": ["local", "global"]}],
                model={"head_dim": 24, "norm_eps": 0.01},
                embedding={"rope_theta": 500.0},
            ),
            {
                **FLINT_SIZES,
                "num_hidden_layers": 2,
                "head_dim": 24,
                "sliding_window": 5,
                "attention_bias": True,
                "num_experts": 6,
                "num_experts_per_tok": 3,
                "norm_topk_prob": False,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
                "mlp_only_layers": [0],
                "layer_types": ["sliding_attention", "full_attention"],
            },
        ),
    },
    features=(
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("that norm's weight in float32", {f"{ATTENTION}.qk_norm.float32_weight": False}, shows="bfloat16"),
        Feature("sinks", {f"{ATTENTION}.attention_sinks": GONE}),
        Feature("sinks in float32", {f"{ATTENTION}.attention_sinks.dtype": GONE}, shows="bfloat16"),
        Feature("scores in float32", {f"{ATTENTION}.score_dtype": GONE}, shows="bfloat16"),
        Feature("window", {f"{ATTENTION}.window": GONE}),
        Feature("global layers without rope", {f"{ATTENTION}.rope": GONE}),
        Feature("norm weights in float32", {f"{NORM}.float32_weight": False}, shows="bfloat16"),
        Feature("sigmoid scores", {f"{SPARSE}.router": "softmax"}),
        Feature(
            "router in float32", {f"{SPARSE}.router_float32": False, f"{SPARSE}.router_dtype": GONE}, shows="bfloat16"
        ),
        Feature("router kept in float32", {f"{SPARSE}.router_dtype": GONE}, shows="bfloat16"),
        Feature("shared expert", {f"{SPARSE}.shared_experts": 0, f"{SPARSE}.shared_size": GONE}, shows="weights"),
        Feature("width of the shared expert", {f"{SPARSE}.shared_size": 32}, shows="weights"),
        Feature("two experts a token", {f"{SPARSE}.top_k": 1}),
        Feature("dense first layer", {"layer_schedule": [{"template": "local", "repeat": 4}]}, shows="weights"),
        Feature("weights left undivided", {"layer_templates.global.ffn.moe.normalize": True}, case="biased"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
    ),
)
