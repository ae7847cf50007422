"""Families by their feed-forward networks and routers: Apertus, Command A MoE, PhiMoE."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.experts import MOE, routed
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import LIBRARY, block, document

APERTUS_RENAMES = (
    Rename(r"(.*)\.attention_layernorm\.weight", (r"\1.input_layernorm.weight",)),
    Rename(r"(.*)\.feedforward_layernorm\.weight", (r"\1.post_attention_layernorm.weight",)),
)
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
XIELU: dict[str, Any] = {"type": "mlp", "activation": "xielu"}

APERTUS = Family(
    name="apertus",
    config="ApertusConfig",
    model="ApertusForCausalLM",
    renames=APERTUS_RENAMES,
    cases={
        "base": Case(
            document(
                "apertus_tiny",
                {"block": block({"qk_norm": "head"}, XIELU)},
                model={"norm_eps": 1.0e-5},
                embedding={"rope": {"theta": 12000000.0, "scaling": {"type": "llama3", **LLAMA3}}},
                head=UNTIED,
            ),
            {**LIBRARY, "rope_parameters": {"rope_type": "llama3", "rope_theta": 12000000.0, **LLAMA3}},
        ),
        "biased": Case(
            document(
                "apertus_biased",
                {"block": block({"qk_norm": "head", "qkv_bias": True, "out_bias": True}, XIELU)},
                model={"norm_eps": 0.01, "n_kv_heads": 1},
                embedding={"rope": {"theta": 10000.0}},
            ),
            {
                **LIBRARY,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
        "relu squared": Case(
            document(
                "apertus_relu2",
                {"block": block({"qk_norm": "head"}, {"type": "mlp", "activation": "relu2"})},
                model={"norm_eps": 1.0e-5},
                head=UNTIED,
            ),
            {**LIBRARY, "hidden_act": "relu2", "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        ),
    },
    features=(
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("trained activation", {f"{FFN}.activation": "relu2"}),
        Feature("no gate", {f"{FFN}.type": "gated_mlp"}, shows="weights"),
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("scaled rope", {"embedding.rope.scaling": GONE}),
        Feature("rope theta", {"embedding.rope.theta": GONE}),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("activation", {f"{FFN}.activation": "relu"}, case="relu squared"),
    ),
)

COHERE_NORM = {"type": "layernorm", "bias": False}
COHERE_ROPE = {"interleaved": True, "precision": "float32_rotation"}
COHERE_ROUTER = {"score_over": "chosen", "weights_dtype": "model"}
COHERE_SIZES = {
    **LIBRARY,
    "head_dim": 16,
    "sliding_window": 8,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "layer_norm_eps": 1e-5,
}


def cohere(attention: dict[str, Any], ffn: dict[str, Any]) -> dict[str, Any]:
    """One layer of Command A: attention and feed-forward network side by side."""
    return block(attention, ffn, COHERE_NORM, {"type": "parallel"})


COHERE2_MOE = Family(
    name="cohere2_moe",
    config="Cohere2MoeConfig",
    model="Cohere2MoeForCausalLM",
    cases={
        "base": Case(
            document(
                "cohere2_moe_tiny",
                {
                    "dense": cohere({"window": 8, "rope": COHERE_ROPE}, {"type": "gated_mlp", "intermediate_size": 64}),
                    "local": cohere({"window": 8, "rope": COHERE_ROPE}, routed(**COHERE_ROUTER, shared_experts=1)),
                    "global": cohere({"rope": "none"}, routed(**COHERE_ROUTER, shared_experts=1)),
                },
                [{"pattern": ["dense", "local", "local", "global"]}],
                model={"head_dim": 16},
                head={"logit_scale": 0.0625},
            ),
            {
                **COHERE_SIZES,
                "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
                "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
                "prefix_dense_intermediate_size": 64,
                "shared_expert_combination_strategy": "sum",
                "logit_scale": 0.0625,
            },
        ),
        "averaged": Case(
            document(
                "cohere2_moe_averaged",
                {
                    "block": cohere(
                        {"window": 8, "rope": COHERE_ROPE, "qkv_bias": True, "out_bias": True},
                        routed(
                            score_over="chosen",
                            scores_dtype="model",
                            router="sigmoid",
                            experts=6,
                            top_k=3,
                            shared_experts=2,
                            shared_average=True,
                        ),
                    )
                },
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 0.01},
                head={"logit_scale": 1.0},
            ),
            {
                **COHERE_SIZES,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "num_experts": 6,
                "num_experts_per_tok": 3,
                "num_shared_experts": 2,
                "attention_bias": True,
                "expert_selection_fn": "sigmoid",
                "norm_topk_prob": True,
                "shared_expert_combination_strategy": "average",
                "layer_norm_eps": 0.01,
                "layer_types": ["sliding_attention"] * 4,
                "mlp_layer_types": ["sparse"] * 4,
                "logit_scale": 1.0,
            },
        ),
    },
    features=(
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("experts chosen by logits", {f"{MOE}.score_over": GONE, f"{MOE}.normalize": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="averaged"),
        Feature("shared expert", {"layer_templates.local.ffn.moe.shared_experts": 0}),
        Feature("weights of the chosen", {"layer_templates.local.ffn.moe.router": "sigmoid"}),
        Feature(
            "weights in the model's dtype", {"layer_templates.local.ffn.moe.weights_dtype": GONE}, shows="bfloat16"
        ),
        Feature("no rope without a window", {"layer_templates.global.mixer.attention.rope": COHERE_ROPE}),
        Feature("window", {"layer_templates.local.mixer.attention.window": GONE}),
        Feature("factor on the logits", {"head.logit_scale": GONE}),
        Feature("average with the shared experts", {f"{MOE}.shared_average": GONE}, case="averaged"),
        Feature("sigmoid scores", {f"{MOE}.router": GONE}, case="averaged"),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}, case="averaged"),
        Feature("scores in the model's dtype", {f"{MOE}.scores_dtype": GONE}, case="averaged", shows="bfloat16"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="averaged"),
        Feature("eps", {"model.norm_eps": GONE}, case="averaged"),
    ),
)

MIXER = {"type": "sparsemixer", "threshold": 0.01}
PHI_NORM = {"type": "layernorm"}
PHI_SIZES = {**LIBRARY, "num_local_experts": 4, "num_experts_per_tok": 2, "router_jitter_noise": 0.01}

PHIMOE = Family(
    name="phimoe",
    config="PhimoeConfig",
    model="PhimoeForCausalLM",
    losses={"output_router_logits": True},
    renames=(Rename(r"(.*\.mlp)\.router\.weight", (r"\1.gate.weight",)),),
    cases={
        "base": Case(
            document(
                "phimoe_tiny",
                {"block": block({}, routed(routing=MIXER, load_balance_coef=0.02), PHI_NORM)},
                model={"norm_eps": 1.0e-5},
                embedding={"rope_theta": 1000000.0},
                head=UNTIED,
            ),
            {
                **PHI_SIZES,
                "router_aux_loss_coef": 0.02,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            },
        ),
        "wide threshold": Case(
            document(
                "phimoe_wide",
                {
                    "block": block(
                        {"qkv_bias": True, "out_bias": True},
                        routed(routing={**MIXER, "threshold": 0.4}, experts=6),
                        PHI_NORM,
                    )
                },
                model={"norm_eps": 0.01, "n_kv_heads": 1},
                head={"tie_weights": False, "bias": True},
            ),
            {
                **PHI_SIZES,
                "num_key_value_heads": 1,
                "num_local_experts": 6,
                "router_jitter_noise": 0.4,
                "attention_bias": True,
                "lm_head_bias": True,
                "router_aux_loss_coef": 0.0,
                "rms_norm_eps": 0.01,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    },
    features=(
        Feature("sparse mixer", {f"{MOE}.routing": GONE}),
        Feature("threshold", {f"{MOE}.routing.threshold": 0.01}, case="wide threshold"),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("LayerNorm", {"layer_templates.*.norm.type": "rmsnorm"}, shows="weights"),
        Feature("two experts a token", {f"{MOE}.routing": GONE, f"{MOE}.top_k": 1}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="wide threshold"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="wide threshold"),
        Feature("bias of the head", {"head.bias": GONE}, case="wide threshold"),
        Feature("eps", {"model.norm_eps": GONE}, case="wide threshold"),
    ),
)
