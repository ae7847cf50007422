"""Families with latent attention before routed experts: DeepSeek-V2 and V3.2, GLM-4.7 Flash, A.X-K1, GLM-5."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.llama_like import BIASED
from tests.families.routed import DEEPSEEK_SIZES, EXPERTS, MLA, YARN, deepseek
from tests.families.specs import block, document

MOE = f"{FFN}.moe"
# The library multiplies complex numbers in float32
COMPLEX = {"interleaved": True, "precision": "float32"}
SOFTMAX: dict[str, Any] = {
    "experts": 8,
    "top_k": 3,
    "expert_size": 32,
    "router_float32": True,
    "normalize": False,
    "scale": 2.5,
    "groups": {"count": 4, "limit": 2, "score": "max"},
    "shared_experts": 2,
    "load_balance_coef": 0.0,
}
DEEPSEEK_V2_SIZES = {
    **DEEPSEEK_SIZES,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "topk_method": "group_limited_greedy",
}

DEEPSEEK_V2 = Family(
    name="deepseek_v2",
    config="DeepseekV2Config",
    model="DeepseekV2ForCausalLM",
    cases={
        "base": Case(
            deepseek(
                "deepseek_v2_tiny",
                {"mla": MLA, **BIASED},
                SOFTMAX,
                {**COMPLEX, "scaling": {"type": "yarn", **YARN}},
                norm_eps=0.01,
            ),
            {
                **DEEPSEEK_V2_SIZES,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **YARN},
            },
        ),
        "lite": Case(
            deepseek(
                "deepseek_v2_lite",
                {"mla": {**MLA, "q_rank": None}},
                {name: value for name, value in SOFTMAX.items() if name not in ("scale", "groups")} | {"top_k": 2},
                {**COMPLEX, "theta": 50000.0},
            ),
            {
                **DEEPSEEK_V2_SIZES,
                "q_lora_rank": None,
                "topk_method": "greedy",
                "num_experts_per_tok": 2,
                "routed_scaling_factor": 1.0,
                "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
            },
        ),
    },
    features=(
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("rotation in float32", {"embedding.rope.precision": GONE}, shows="bfloat16"),
        Feature("yarn", {"embedding.rope.scaling": GONE}),
        Feature("mscale of the scores", {"embedding.rope.scaling.mscale_all_dim": GONE}),
        Feature("mscale of the tables", {"embedding.rope.scaling.mscale": 0.7}),
        Feature("low rank of the queries", {f"{ATTENTION}.mla.q_rank": GONE}, shows="weights"),
        Feature("width of a value head", {f"{ATTENTION}.mla.v_dim": 16}, shows="weights"),
        Feature("norms on the latents", {f"{ATTENTION}.mla.norms": False}),
        Feature("biases into the latents", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("groups ranked by their best", {f"{MOE}.groups.score": "top2"}),
        Feature("softmax scores", {f"{MOE}.router": "sigmoid"}),
        Feature("weights left undivided", {f"{MOE}.normalize": True}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared experts", {f"{MOE}.shared_experts": 0}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("eps", {"model.norm_eps": GONE}),
        Feature("dense first layer", {"layer_schedule": [{"template": "sparse", "repeat": 3}]}),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="lite"),
        Feature("two experts a token", {f"{MOE}.top_k": 3}, case="lite"),
    ),
)

GLM4_MOE_LITE_SIZES = {
    **{name: value for name, value in DEEPSEEK_SIZES.items() if name != "first_k_dense_replace"},
    "rms_norm_eps": 1.0e-6,
}
GLM4_MOE_LITE = Family(
    name="glm4_moe_lite",
    config="Glm4MoeLiteConfig",
    model="Glm4MoeLiteForCausalLM",
    cases={
        "base": Case(
            deepseek("glm4_moe_lite_tiny", {"mla": MLA}, EXPERTS, {"interleaved": True, "theta": 1000000.0}),
            {**GLM4_MOE_LITE_SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}},
        ),
        "halves": Case(
            document(
                "glm4_moe_lite_halves",
                {"sparse": block({"mla": MLA, **BIASED}, {"type": "moe", "moe": {**EXPERTS, "normalize": False}})},
                [{"template": "sparse", "repeat": 2}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"scaling": {"type": "yarn", **YARN}}},
            ),
            {
                **GLM4_MOE_LITE_SIZES,
                "num_hidden_layers": 2,
                "mlp_layer_types": ["sparse", "sparse"],
                "norm_topk_prob": False,
                "attention_bias": True,
                "rope_interleave": False,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **YARN},
            },
        ),
    },
    features=(
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("rope theta", {"embedding.rope.theta": GONE}),
        Feature("low rank of the queries", {f"{ATTENTION}.mla.q_rank": GONE}, shows="weights"),
        Feature("norms on the latents", {f"{ATTENTION}.mla.norms": False}),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("half-split rope", {"embedding.rope.interleaved": True}, case="halves"),
        Feature("mscale of the scores", {"embedding.rope.scaling.mscale_all_dim": GONE}, case="halves"),
        Feature("biases into the latents", {f"{ATTENTION}.qkv_bias": False}, case="halves"),
        Feature("eps", {"model.norm_eps": GONE}, case="halves"),
        Feature("tied head", {"head": UNTIED}, case="halves", shows="gradients"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="halves"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("yarn", {"embedding.rope.scaling": GONE}, case="halves"),
    ),
)

INDEXER = {"n_heads": 8, "head_dim": 16, "top_k": 32}
DEEPSEEK_V32_SIZES = {**DEEPSEEK_SIZES, "index_n_heads": 8, "index_head_dim": 16, "index_topk": 32}
DEEPSEEK_V32 = Family(
    name="deepseek_v32",
    config="DeepseekV32Config",
    model="DeepseekV32ForCausalLM",
    cases={
        "base": Case(
            deepseek("deepseek_v32_tiny", {"mla": MLA, "indexer": INDEXER}, EXPERTS, {"interleaved": True}),
            {**DEEPSEEK_V32_SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        ),
        "sparse": Case(
            deepseek(
                "deepseek_v32_sparse",
                {"mla": MLA, "indexer": {**INDEXER, "top_k": 5}, **BIASED},
                {**EXPERTS, "groups": {"count": 1, "limit": 1}},
                {"interleaved": True, "scaling": {"type": "yarn", **YARN}},
                norm_eps=0.01,
            ),
            {
                **DEEPSEEK_V32_SIZES,
                "n_group": 1,
                "topk_group": 1,
                "index_topk": 5,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **YARN},
            },
        ),
    },
    features=(
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("norms on the latents", {f"{ATTENTION}.mla.norms": False}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("indexer", {f"{ATTENTION}.indexer": GONE}, shows="weights"),
        Feature("chosen keys alone", {f"{ATTENTION}.indexer": GONE}, case="sparse"),
        Feature("number of chosen keys", {f"{ATTENTION}.indexer.top_k": 6}, case="sparse"),
        Feature("half-split rope in the indexer", {f"{ATTENTION}.indexer.interleaved": True}, case="sparse"),
        Feature("mscale of the scores", {"embedding.rope.scaling.mscale_all_dim": GONE}, case="sparse"),
        Feature("biases into the latents", {f"{ATTENTION}.qkv_bias": False}, case="sparse"),
        Feature("eps", {"model.norm_eps": GONE}, case="sparse"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="sparse"),
        Feature("yarn", {"embedding.rope.scaling": GONE}, case="sparse"),
    ),
)

AFTER_EXPERTS = {"ffn": {"type": "rmsnorm", "position": "sandwich"}}
AXK1_SIZES = {**GLM4_MOE_LITE_SIZES, "mlp_layer_types": ["dense", "sparse", "sparse"]}
AXK1 = Family(
    name="axk1",
    config="AXK1Config",
    model="AXK1ForCausalLM",
    renames=(Rename(r"(.*)\.mlp\.post_mlp_layernorm\.(\w+)", (r"\1.post_feedforward_layernorm.\2",)),),
    cases={
        "base": Case(
            document(
                "axk1_tiny",
                {
                    "dense": block({"mla": MLA}),
                    "sparse": block({"mla": MLA}, {"type": "moe", "moe": EXPERTS}, AFTER_EXPERTS),
                },
                [{"template": "dense"}, {"template": "sparse", "repeat": 2}],
                model={"n_kv_heads": 4},
                embedding={"rope": {"interleaved": True, "scaling": {"type": "yarn", **YARN}}},
                head=UNTIED,
            ),
            {**AXK1_SIZES, "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **YARN}},
        ),
        "halves": Case(
            document(
                "axk1_halves",
                {
                    "sparse": block(
                        {"mla": MLA, **BIASED}, {"type": "moe", "moe": {**EXPERTS, "normalize": False}}, AFTER_EXPERTS
                    )
                },
                [{"template": "sparse", "repeat": 2}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"theta": 50000.0}},
            ),
            {
                **AXK1_SIZES,
                "num_hidden_layers": 2,
                "mlp_layer_types": ["sparse", "sparse"],
                "norm_topk_prob": False,
                "attention_bias": True,
                "rope_interleave": False,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
            },
        ),
    },
    features=(
        Feature("norm after the experts", {"layer_templates.sparse.norm.ffn": GONE}),
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("mscale of the scores", {"embedding.rope.scaling.mscale_all_dim": GONE}),
        Feature("norms on the latents", {f"{ATTENTION}.mla.norms": False}),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("yarn", {"embedding.rope.scaling": GONE}),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="halves"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="halves"),
        Feature("half-split rope", {"embedding.rope.interleaved": True}, case="halves"),
        Feature("biases into the latents", {f"{ATTENTION}.qkv_bias": False}, case="halves"),
        Feature("weights left undivided", {f"{MOE}.normalize": True}, case="halves"),
        Feature("eps", {"model.norm_eps": GONE}, case="halves"),
    ),
)

CHOOSING = {"mla": MLA, "indexer": {**INDEXER, "interleaved": True, "top_k": 5}}
SHARING = {"mla": MLA, "indexer": "shared"}
GLM_SIZES = {**DEEPSEEK_V32_SIZES, "n_group": 1, "topk_group": 1, "index_topk": 5, "first_k_dense_replace": 1}
GLM_EXPERTS = {"type": "moe", "moe": {name: value for name, value in EXPERTS.items() if name != "groups"}}
GLM_MOE_DSA = Family(
    name="glm_moe_dsa",
    config="GlmMoeDsaConfig",
    model="GlmMoeDsaForCausalLM",
    cases={
        "base": Case(
            document(
                "glm_moe_dsa_tiny",
                {
                    "dense": block(CHOOSING),
                    "choosing": block(CHOOSING, GLM_EXPERTS),
                    "sharing": block(SHARING, GLM_EXPERTS),
                },
                [{"template": "dense"}, {"pattern": ["sharing", "sharing", "choosing", "sharing"]}],
                model={"n_kv_heads": 4, "norm_eps": 1.0e-5},
                embedding={"rope": {"interleaved": True}},
                head=UNTIED,
            ),
            {
                **GLM_SIZES,
                "num_hidden_layers": 5,
                "indexer_types": ["full", "shared", "shared", "full", "shared"],
                "rms_norm_eps": 1.0e-5,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
        "full": Case(
            document(
                "glm_moe_dsa_full",
                {"dense": block({**CHOOSING, **BIASED})},
                [{"template": "dense", "repeat": 2}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"interleaved": True, "theta": 50000.0}},
            ),
            {
                **GLM_SIZES,
                "num_hidden_layers": 2,
                "mlp_layer_types": ["dense", "dense"],
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
            },
        ),
    },
    features=(
        Feature("shared choice", {"layer_templates.sharing.mixer.attention.indexer": GONE}),
        Feature(
            "interleaved rope in the indexer", {"layer_templates.choosing.mixer.attention.indexer.interleaved": False}
        ),
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="full"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="full"),
        Feature("number of chosen keys", {f"{ATTENTION}.indexer.top_k": 6}, case="full"),
        Feature("biases into the latents", {f"{ATTENTION}.qkv_bias": False}, case="full"),
        Feature("eps", {"model.norm_eps": GONE}, case="full"),
        Feature("tied head", {"head": UNTIED}, case="full", shows="gradients"),
    ),
)
