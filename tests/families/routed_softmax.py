"""Families whose routers take the softmax of all experts: Qwen 3 MoE, OLMoE, FlexOlmo, Mellum."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Spec
from tests.families.specs import LIBRARY, block, document

MOE = f"{FFN}.moe"
SIZES = {**LIBRARY, "num_experts": 4, "num_experts_per_tok": 2}
ROUTED: dict[str, Any] = {"experts": 4, "top_k": 2, "load_balance_coef": 0.02, "weights_dtype": "model"}


def routed(**keys: Any) -> dict[str, Any]:
    """A feed-forward of four experts, two a token."""
    return {"type": "moe", "moe": {**ROUTED, **keys}}


QWEN3_MOE = Family(
    name="qwen3_moe",
    config="Qwen3MoeConfig",
    model="Qwen3MoeForCausalLM",
    losses={"output_router_logits": True},
    cases={
        "base": Case(
            document(
                "qwen3_moe_tiny",
                {"block": block({"qk_norm": "head"}, routed(expert_size=32))},
                model={"head_dim": 16},
                head=UNTIED,
            ),
            {
                **SIZES,
                "head_dim": 16,
                "moe_intermediate_size": 32,
                "norm_topk_prob": True,
                "router_aux_loss_coef": 0.02,
            },
        ),
        "every second": Case(
            document(
                "qwen3_moe_alternating",
                {
                    "dense": block({"qk_norm": "head", "qkv_bias": True, "out_bias": True}),
                    "sparse": block(
                        {"qk_norm": "head", "qkv_bias": True, "out_bias": True},
                        routed(expert_size=24, normalize=False, experts=6, top_k=3),
                    ),
                },
                [{"pattern": ["dense", "sparse"], "repeat": 2}],
                model={"head_dim": 24, "norm_eps": 0.01},
            ),
            {
                **SIZES,
                "head_dim": 24,
                "attention_bias": True,
                "num_experts": 6,
                "num_experts_per_tok": 3,
                "moe_intermediate_size": 24,
                "norm_topk_prob": False,
                "router_aux_loss_coef": 0.02,
                "decoder_sparse_step": 2,
                "mlp_only_layers": [],
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("weights in the model's dtype", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
        Feature("weights left undivided", {"layer_templates.sparse.ffn.moe.normalize": True}, case="every second"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="every second"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="every second"),
        Feature("eps", {"model.norm_eps": GONE}, case="every second"),
        Feature(
            "dense layers between",
            {"layer_schedule": [{"template": "sparse", "repeat": 4}]},
            case="every second",
        ),
    ),
)

OLMOE = Family(
    name="olmoe",
    config="OlmoeConfig",
    model="OlmoeForCausalLM",
    losses={"output_router_logits": True},
    cases={
        "base": Case(
            document(
                "olmoe_tiny",
                {"block": block({"qk_norm": "full"}, routed(normalize=False))},
                model={"n_kv_heads": 4, "norm_eps": 1.0e-5},
                head=UNTIED,
            ),
            {
                **SIZES,
                "num_key_value_heads": 4,
                "norm_topk_prob": False,
                "router_aux_loss_coef": 0.02,
                "rms_norm_eps": 1e-5,
            },
        ),
        "grouped": Case(
            document(
                "olmoe_grouped",
                {"block": block({"qk_norm": "full", "qkv_bias": True, "out_bias": True}, routed(top_k=3, experts=6))},
                model={"norm_eps": 0.01},
                embedding={"rope_theta": 500000.0},
            ),
            {
                **SIZES,
                "num_experts": 6,
                "num_experts_per_tok": 3,
                "norm_topk_prob": True,
                "attention_bias": True,
                "router_aux_loss_coef": 0.02,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
            },
        ),
    },
    features=(
        Feature("norm over the whole projection", {f"{ATTENTION}.qk_norm": "head"}, shows="weights"),
        Feature("weights left undivided", {f"{MOE}.normalize": True}),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}, case="grouped"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="grouped"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="grouped"),
        Feature("eps", {"model.norm_eps": GONE}, case="grouped"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="grouped"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("dtype of the routed weights", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
    ),
)

FLEX_NORM = {"position": "output", "float32_weight": True}
FLEX_ATTENTION: dict[str, Any] = {
    "qk_norm": {"over": "full", "float32_weight": True},
    "rope": {"precision": "float32"},
}

FLEX_OLMO = Family(
    name="flex_olmo",
    config="FlexOlmoConfig",
    model="FlexOlmoForCausalLM",
    losses={"output_router_logits": True},
    cases={
        "base": Case(
            document(
                "flex_olmo_tiny",
                {"block": block(FLEX_ATTENTION, routed(normalize=False), FLEX_NORM)},
                head=UNTIED,
            ),
            {
                **SIZES,
                "norm_topk_prob": False,
                "router_aux_loss_coef": 0.02,
                "rms_norm_eps": 1e-6,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
        "biased": Case(
            document(
                "flex_olmo_biased",
                {"block": block({**FLEX_ATTENTION, "qkv_bias": True, "out_bias": True}, routed(top_k=3), FLEX_NORM)},
                model={"norm_eps": 0.01, "n_kv_heads": 1},
                embedding={"rope_theta": 500000.0},
            ),
            {
                **SIZES,
                "num_experts_per_tok": 3,
                "num_key_value_heads": 1,
                "norm_topk_prob": True,
                "attention_bias": True,
                "router_aux_loss_coef": 0.02,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
            },
        ),
    },
    features=(
        Feature("norms on the outputs", {f"{NORM}.position": "pre"}, shows="weights"),
        Feature("weight in float32", {f"{NORM}.float32_weight": False}, shows="bfloat16"),
        Feature("tables in float32", {f"{ATTENTION}.rope": GONE}, shows="bfloat16"),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}, case="biased"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("dtype of the routed weights", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("query and key norm in float32", {f"{ATTENTION}.qk_norm": {"over": "full"}}, shows="bfloat16"),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
    ),
)

YARN = {"factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 32.0, "beta_slow": 1.0}


def mellum_templates(**attention: Any) -> dict[str, Spec]:
    """A dense local layer, a sparse local and a sparse global one; local and global ropes differ."""
    local = {"qk_norm": "head", "window": 8, **attention}
    wide = {"qk_norm": "head", "rope": {"theta": 500000.0, "scaling": {"type": "yarn", **YARN}}, **attention}
    return {
        "dense": block(local),
        "local": block(local, routed(expert_size=32)),
        "global": block(wide, routed(expert_size=32)),
    }


MELLUM_SIZES = {
    **SIZES,
    "head_dim": 16,
    "moe_intermediate_size": 32,
    "router_aux_loss_coef": 0.02,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
    "rope_parameters": {
        "full_attention": {"rope_type": "yarn", "rope_theta": 500000.0, **YARN},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
MELLUM_LAYERS = [{"pattern": ["dense", "global", "local", "global"]}]

MELLUM = Family(
    name="mellum",
    config="MellumConfig",
    model="MellumForCausalLM",
    losses={"output_router_logits": True},
    cases={
        "base": Case(
            document("mellum_tiny", mellum_templates(), MELLUM_LAYERS, model={"head_dim": 16}, head=UNTIED),
            MELLUM_SIZES,
        ),
        "biased": Case(
            document(
                "mellum_biased",
                mellum_templates(qkv_bias=True, out_bias=True),
                MELLUM_LAYERS,
                model={"head_dim": 16, "n_kv_heads": 1, "norm_eps": 0.01},
            ),
            {
                **MELLUM_SIZES,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("scaled rope of the global layers", {f"{ATTENTION}.rope.scaling": GONE}),
        Feature("base of the global layers", {f"{ATTENTION}.rope.theta": GONE}),
        Feature("window", {f"{ATTENTION}.window": 9}),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("dense first layer", {"layer_schedule": [{"pattern": ["local", "global"], "repeat": 2}]}),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("dtype of the routed weights", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
    ),
)
