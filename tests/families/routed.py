"""Families with routed experts: Mixtral, DeepSeek-V3."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Spec
from tests.families.specs import LIBRARY, block, document

MOE = f"{FFN}.moe"

MIXTRAL = Family(
    name="mixtral",
    config="MixtralConfig",
    model="MixtralForCausalLM",
    losses={"output_router_logits": True},
    cases={
        "base": Case(
            document(
                "mixtral_tiny",
                {"block": block(ffn={"type": "moe", "moe": {"experts": 4, "top_k": 2, "load_balance_coef": 0.02}})},
                model={"head_dim": 16, "norm_eps": 1.0e-5},
                embedding={"rope_theta": 1000000.0},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "head_dim": 16,
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
                "router_aux_loss_coef": 0.02,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            },
        ),
        "windowed": Case(
            document(
                "mixtral_windowed",
                {
                    "block": block(
                        {"window": 8},
                        {
                            "type": "moe",
                            "activation": "geglu",
                            "moe": {"experts": 6, "top_k": 3, "expert_size": 40, "load_balance_coef": 0.5},
                        },
                    )
                },
                model={"n_kv_heads": 4, "norm_eps": 0.01},
            ),
            {
                **LIBRARY,
                "num_key_value_heads": 4,
                "intermediate_size": 40,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "sliding_window": 8,
                "num_local_experts": 6,
                "num_experts_per_tok": 3,
                "router_aux_loss_coef": 0.5,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    },
    features=(
        Feature("number of experts", {f"{MOE}.experts": 8}, shows="weights"),
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("softmax scores", {f"{MOE}.router": "sigmoid"}),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("gradient of the load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="gradients"),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("window", {f"{ATTENTION}.window": GONE}, case="windowed"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="windowed"),
        Feature("eps", {"model.norm_eps": GONE}, case="windowed"),
        Feature("weight of the load-balancing loss", {f"{MOE}.load_balance_coef": GONE}, case="windowed", shows="loss"),
        Feature("tied head", {"head.tie_weights": False}, case="windowed", shows="gradients"),
    ),
)

MLA = {"kv_rank": 16, "q_rank": 24, "nope_dim": 16, "rope_dim": 8, "v_dim": 12}
EXPERTS: dict[str, Any] = {
    "experts": 8,
    "top_k": 2,
    "expert_size": 32,
    "router": "sigmoid",
    "router_float32": True,
    "scale": 2.5,
    "groups": {"count": 4, "limit": 2},
    "bias_correction": {"enabled": True},
    "shared_experts": 1,
    "load_balance_coef": 0.0,
}
YARN = {
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 0.7,
}
DEEPSEEK_SIZES = {
    **LIBRARY,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 4,
    "topk_group": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
    "routed_scaling_factor": 2.5,
    "first_k_dense_replace": 1,
}


def deepseek(name: str, attention: dict[str, Any], experts: dict[str, Any], rope: dict[str, Any], **rest: Any) -> Spec:
    """A dense layer, then layers of experts, all with latent attention."""
    sparse = {"type": "moe", "moe": experts}
    return document(
        name,
        {"dense": block(attention), "sparse": block(attention, sparse)},
        [{"template": "dense"}, {"template": "sparse", "repeat": 2}],
        model={"n_kv_heads": 4, **rest},
        embedding={"rope": rope},
        head=UNTIED,
    )


DEEPSEEK_V3 = Family(
    name="deepseek_v3",
    config="DeepseekV3Config",
    model="DeepseekV3ForCausalLM",
    cases={
        "base": Case(
            deepseek("deepseek_v3_tiny", {"mla": MLA}, EXPERTS, {"interleaved": True}),
            {**DEEPSEEK_SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        ),
        "yarn": Case(
            deepseek(
                "deepseek_v3_yarn",
                {"mla": MLA, "qkv_bias": True, "out_bias": True},
                {**EXPERTS, "top_k": 3, "normalize": False, "scale": 1.5, "shared_experts": 2},
                {"interleaved": True, "scaling": {"type": "yarn", **YARN}},
                norm_eps=0.01,
            ),
            {
                **DEEPSEEK_SIZES,
                "attention_bias": True,
                "num_experts_per_tok": 3,
                "norm_topk_prob": False,
                "routed_scaling_factor": 1.5,
                "n_shared_experts": 2,
                "rms_norm_eps": 0.01,
                "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **YARN},
            },
        ),
        "halves": Case(
            deepseek("deepseek_v3_halves", {"mla": {**MLA, "q_rank": None}}, EXPERTS, {"theta": 50000.0}),
            {
                **DEEPSEEK_SIZES,
                "q_lora_rank": None,
                "rope_interleave": False,
                "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
            },
        ),
    },
    features=(
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("low rank of the queries", {f"{ATTENTION}.mla.q_rank": GONE}, shows="weights"),
        Feature("width of a value head", {f"{ATTENTION}.mla.v_dim": 16}, shows="weights"),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("groups ranked by their two best", {f"{MOE}.groups.score": "max"}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("norms on the latents", {f"{ATTENTION}.mla.norms": False}),
        Feature("dense first layer", {"layer_schedule": [{"template": "sparse", "repeat": 3}]}),
        Feature("yarn", {"embedding.rope.scaling": GONE}, case="yarn"),
        Feature("mscale of the scores", {"embedding.rope.scaling.mscale_all_dim": GONE}, case="yarn"),
        Feature("mscale of the tables", {"embedding.rope.scaling.mscale": 0.7}, case="yarn"),
        Feature("weights left undivided", {f"{MOE}.normalize": True}, case="yarn"),
        Feature("biases into the latents", {f"{ATTENTION}.qkv_bias": False}, case="yarn"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="yarn"),
        Feature("eps", {"model.norm_eps": GONE}, case="yarn"),
        Feature("eps of the latents' norms", {f"{ATTENTION}.mla.norm_eps": 0.01}, case="yarn"),
        Feature("half-split rope", {"embedding.rope.interleaved": True}, case="halves"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="halves"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
    ),
)
