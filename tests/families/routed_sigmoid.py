"""Families whose routers take sigmoids, corrected by a bias: MiniMax-M2, dots.llm1, GLM-4 MoE, Solar Open."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import LIBRARY, block, document

MOE = f"{FFN}.moe"
SIGMOID: dict[str, Any] = {
    "experts": 8,
    "top_k": 2,
    "expert_size": 32,
    "router": "sigmoid",
    "bias_correction": {"enabled": True, "dtype": "float32"},
    "load_balance_coef": 0.0,
}
MODEL_BIAS: dict[str, Any] = {**SIGMOID, "bias_correction": {"dtype": "model"}}
GROUPED: dict[str, Any] = {
    **SIGMOID,
    "router_float32": True,
    "scale": 2.5,
    "groups": {"count": 4, "limit": 2},
    "shared_experts": 1,
}
GROUPED_LIBRARY: dict[str, Any] = {
    **LIBRARY,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
    "routed_scaling_factor": 2.5,
    "n_group": 4,
    "topk_group": 2,
    "norm_topk_prob": True,
}
DENSE_FIRST = [{"template": "dense"}, {"template": "sparse", "repeat": 3}]


def routed(experts: dict[str, Any]) -> dict[str, Any]:
    """A feed-forward of these experts."""
    return {"type": "moe", "moe": experts}


MINIMAX_M2 = Family(
    name="minimax_m2",
    config="MiniMaxM2Config",
    model="MiniMaxM2ForCausalLM",
    renames=(Rename(r"(.*\.mlp)\.e_score_correction_bias", (r"\1.gate.e_score_correction_bias",)),),
    cases={
        "base": Case(
            document(
                "minimax_m2_tiny",
                {"block": block({"qk_norm": "full", "rope": {"partial": 0.5}}, routed(MODEL_BIAS))},
                model={"head_dim": 16},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "head_dim": 16,
                "intermediate_size": 32,
                "num_local_experts": 8,
                "num_experts_per_tok": 2,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
            },
        ),
        "wide heads": Case(
            document(
                "minimax_m2_wide",
                {
                    "block": block(
                        {"qk_norm": "full"},
                        {"activation": "geglu", **routed({**MODEL_BIAS, "experts": 6, "top_k": 3, "expert_size": 24})},
                    )
                },
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 0.01},
                embedding={"rope": {"theta": 5000000.0, "partial": 0.25}},
            ),
            {
                **LIBRARY,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "intermediate_size": 24,
                "hidden_act": "gelu",
                "num_local_experts": 6,
                "num_experts_per_tok": 3,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 5000000.0, "partial_rotary_factor": 0.25},
            },
        ),
    },
    features=(
        Feature("norm over the whole projection", {f"{ATTENTION}.qk_norm": "head"}, shows="weights"),
        Feature("partial rope", {f"{ATTENTION}.rope": GONE}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("activation", {f"{FFN}.activation": GONE}, case="wide heads"),
        Feature("eps", {"model.norm_eps": GONE}, case="wide heads"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="wide heads"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("share that rotates", {f"{ATTENTION}.rope.partial": GONE}),
        Feature("share that rotates of wide heads", {"embedding.rope.partial": 1.0}, case="wide heads"),
    ),
)

DOTS1 = Family(
    name="dots1",
    config="Dots1Config",
    model="Dots1ForCausalLM",
    cases={
        "base": Case(
            document(
                "dots1_tiny",
                {
                    "dense": block({"qk_norm": "head"}),
                    "sparse": block({"qk_norm": "head"}, routed(GROUPED)),
                },
                DENSE_FIRST,
                head=UNTIED,
            ),
            {**GROUPED_LIBRARY, "first_k_dense_replace": 1, "sliding_window": None},
        ),
        "windowed": Case(
            document(
                "dots1_windowed",
                {
                    "local": block({"qk_norm": "head", "window": 6, "qkv_bias": True, "out_bias": True}),
                    "global": block(
                        {"qk_norm": "head", "qkv_bias": True, "out_bias": True},
                        routed(
                            {**GROUPED, "normalize": False, "shared_experts": 2, "groups": {"count": 1, "limit": 1}}
                        ),
                    ),
                },
                [{"template": "local"}, {"template": "global", "repeat": 2}],
                model={"norm_eps": 0.01, "n_kv_heads": 4, "head_dim": 24},
            ),
            {
                **GROUPED_LIBRARY,
                "num_hidden_layers": 3,
                "num_key_value_heads": 4,
                "head_dim": 24,
                "attention_bias": True,
                "first_k_dense_replace": 1,
                "n_shared_experts": 2,
                "n_group": 1,
                "topk_group": 1,
                "norm_topk_prob": False,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "sliding_window": 6,
                "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            },
        ),
    },
    features=(
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("window", {f"{ATTENTION}.window": GONE}, case="windowed"),
        Feature("weights left undivided", {f"{MOE}.normalize": True}, case="windowed"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="windowed"),
        Feature("eps", {"model.norm_eps": GONE}, case="windowed"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="windowed"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
    ),
)

GLM4_MOE = Family(
    name="glm4_moe",
    config="Glm4MoeConfig",
    model="Glm4MoeForCausalLM",
    cases={
        "base": Case(
            document(
                "glm4_moe_tiny",
                {
                    "dense": block({"qkv_bias": True, "rope": {"partial": 0.5}}),
                    "sparse": block({"qkv_bias": True, "rope": {"partial": 0.5}}, routed(GROUPED)),
                },
                DENSE_FIRST,
                model={"head_dim": 16, "norm_eps": 1.0e-5},
                head=UNTIED,
            ),
            {**GROUPED_LIBRARY, "head_dim": 16, "attention_bias": True, "first_k_dense_replace": 1},
        ),
        "normed": Case(
            document(
                "glm4_moe_normed",
                {
                    "dense": block({"qk_norm": "head"}),
                    "sparse": block(
                        {"qk_norm": "head"},
                        routed({**GROUPED, "top_k": 3, "normalize": False, "groups": {"count": 1, "limit": 1}}),
                    ),
                },
                [{"template": "dense", "repeat": 2}, {"template": "sparse"}],
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 0.01},
                embedding={"rope": {"theta": 1000000.0, "partial": 0.25}},
            ),
            {
                **GROUPED_LIBRARY,
                "num_hidden_layers": 3,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "use_qk_norm": True,
                "num_experts_per_tok": 3,
                "n_group": 1,
                "topk_group": 1,
                "norm_topk_prob": False,
                "first_k_dense_replace": 2,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "partial_rotary_factor": 0.25},
            },
        ),
    },
    features=(
        Feature("partial rope", {f"{ATTENTION}.rope.partial": GONE}),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}, case="normed"),
        Feature("weights left undivided", {f"{MOE}.normalize": True}, case="normed"),
        Feature("eps", {"model.norm_eps": GONE}, case="normed"),
        Feature(
            "number of dense layers",
            {"layer_schedule": [{"template": "dense"}, {"template": "sparse", "repeat": 2}]},
            case="normed",
        ),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("theta", {"embedding.rope.theta": GONE}, case="normed"),
        Feature("share that rotates", {"embedding.rope.partial": 1.0}, case="normed"),
    ),
)

SOLAR_OPEN = Family(
    name="solar_open",
    config="SolarOpenConfig",
    model="SolarOpenForCausalLM",
    cases={
        "base": Case(
            document(
                "solar_open_tiny",
                {"block": block({}, routed(GROUPED))},
                model={"head_dim": 16, "norm_eps": 1.0e-5},
                embedding={"rope_theta": 1000000.0},
                head=UNTIED,
            ),
            {**GROUPED_LIBRARY, "head_dim": 16},
        ),
        "biased": Case(
            document(
                "solar_open_biased",
                {
                    "block": block(
                        {"qkv_bias": True},
                        routed({**GROUPED, "top_k": 3, "normalize": False, "shared_experts": 2}),
                    )
                },
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 0.01},
            ),
            {
                **GROUPED_LIBRARY,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "num_experts_per_tok": 3,
                "n_shared_experts": 2,
                "norm_topk_prob": False,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    },
    features=(
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("weights left undivided", {f"{MOE}.normalize": True}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
    ),
)
