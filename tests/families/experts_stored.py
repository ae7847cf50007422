"""Families that store experts in a way of their own: gpt-oss, HunYuan MoE."""

from __future__ import annotations

from typing import Any

import torch

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.experts import MOE, routed
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import LIBRARY, block, document


def sorted_rows(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Gates and what they multiply, which take turns on the last axis, one after the other."""
    return (torch.cat((tensor[..., ::2], tensor[..., 1::2]), dim=-1),)


def sorted_matrices(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The same for matrices (experts, in, out), which become (experts, out, in)."""
    return (sorted_rows(tensor)[0].mT,)


def transposed(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Matrices (experts, in, out) as (experts, out, in)."""
    return (tensor.mT,)


YARN = {
    "factor": 4.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 32,
}
OSS_ATTENTION: dict[str, Any] = {"qkv_bias": True, "out_bias": True, "attention_sinks": {"n_per_head": 1}}
OSS_NORM = {"float32_weight": True}


def oss_experts(**keys: Any) -> dict[str, Any]:
    """Clamped experts with biases, chosen by logits."""
    own = {"score_over": "chosen", "scores_dtype": "model", "router_bias": True, "expert_bias": True}
    return {**routed(**own, **keys), "clamp": {"limit": 0.3, "alpha": 1.702, "offset": True}}


OSS_SIZES = {
    **LIBRARY,
    "head_dim": 16,
    "sliding_window": 8,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "swiglu_limit": 0.3,
}

GPT_OSS = Family(
    name="gpt_oss",
    config="GptOssConfig",
    model="GptOssForCausalLM",
    losses={"output_router_logits": True},
    renames=(
        Rename(r"(.*\.mlp)\.router\.(weight|bias)", (r"\1.gate.\2",)),
        Rename(r"(.*\.mlp\.experts\.gate_up_proj)", (r"\1",), sorted_matrices),
        Rename(r"(.*\.mlp\.experts\.gate_up_proj_bias)", (r"\1",), sorted_rows),
        Rename(r"(.*\.mlp\.experts\.down_proj)", (r"\1",), transposed),
    ),
    cases={
        "base": Case(
            document(
                "gpt_oss_tiny",
                {
                    "local": block({**OSS_ATTENTION, "window": 8}, oss_experts(load_balance_coef=0.9), OSS_NORM),
                    "global": block(OSS_ATTENTION, oss_experts(load_balance_coef=0.9), OSS_NORM),
                },
                [{"pattern": ["local", "global"], "repeat": 2}],
                model={"head_dim": 16, "norm_eps": 1.0e-5},
                embedding={"rope": {"theta": 150000.0, "scaling": {"type": "yarn", **YARN}}},
                head=UNTIED,
            ),
            {
                **OSS_SIZES,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "router_aux_loss_coef": 0.9,
                "rope_parameters": {"rope_type": "yarn", "rope_theta": 150000.0, **YARN},
            },
        ),
        "plain rope": Case(
            document(
                "gpt_oss_plain",
                {
                    "block": block(
                        {**OSS_ATTENTION, "window": 6},
                        oss_experts(experts=6, top_k=3),
                        OSS_NORM,
                    )
                },
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 0.01},
                embedding={"rope": {"theta": 10000.0}},
            ),
            {
                **OSS_SIZES,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "sliding_window": 6,
                "num_local_experts": 6,
                "num_experts_per_tok": 3,
                "layer_types": ["sliding_attention"] * 4,
                "router_aux_loss_coef": 0.0,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    },
    features=(
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("experts chosen by logits", {f"{MOE}.score_over": GONE, f"{MOE}.normalize": False}),
        Feature("softmax in the model's dtype", {f"{MOE}.scores_dtype": GONE}, shows="bfloat16"),
        Feature("bias of the router", {f"{MOE}.router_bias": GONE}),
        Feature("biases of the experts", {f"{MOE}.expert_bias": GONE}),
        Feature("clamp", {f"{FFN}.clamp.limit": 7.0}),
        Feature("slope of the gate", {f"{FFN}.clamp.alpha": GONE}),
        Feature("1 added to what the gate multiplies", {f"{FFN}.clamp.offset": GONE}),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("sinks", {f"{ATTENTION}.attention_sinks": GONE}),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("window", {"layer_templates.local.mixer.attention.window": GONE}),
        Feature("norms in float32", {"layer_templates.*.norm.float32_weight": GONE}, shows="bfloat16"),
        Feature("yarn", {"embedding.rope.scaling": GONE}),
        Feature("rope theta", {"embedding.rope.theta": GONE}),
        Feature("eps", {"model.norm_eps": GONE}, case="plain rope"),
    ),
)


HUNYUAN_NORM = {"over": "head", "place": "after_rope"}
HUNYUAN_EXPERTS: dict[str, Any] = {"router_float32": True, "router_dtype": "float32", "shared_experts": 1}

HUNYUAN_V1_MOE = Family(
    name="hunyuan_v1_moe",
    config="HunYuanMoEV1Config",
    model="HunYuanMoEV1ForCausalLM",
    renames=(
        Rename(r"(.*)\.self_attn\.query_layernorm\.weight", (r"\1.self_attn.q_norm.weight",)),
        Rename(r"(.*)\.self_attn\.key_layernorm\.weight", (r"\1.self_attn.k_norm.weight",)),
        Rename(r"(.*\.mlp)\.gate\.wg\.weight", (r"\1.gate.weight",)),
        Rename(r"(.*\.mlp)\.shared_mlp\.(.*)", (r"\1.shared_experts.\2",)),
    ),
    cases={
        "base": Case(
            document(
                "hunyuan_v1_moe_tiny",
                {"block": block({"qk_norm": HUNYUAN_NORM}, routed(**HUNYUAN_EXPERTS))},
                model={"head_dim": 16, "norm_eps": 1.0e-5},
                head=UNTIED,
            ),
            {**LIBRARY, "head_dim": 16, "num_experts": 4, "moe_topk": 2, "rms_norm_eps": 1e-5},
        ),
        "by layer": Case(
            document(
                "hunyuan_v1_moe_by_layer",
                {
                    name: block(
                        {"qk_norm": HUNYUAN_NORM, "qkv_bias": True, "out_bias": True},
                        routed(**{**HUNYUAN_EXPERTS, "experts": 6, "top_k": count}),
                    )
                    for name, count in (("one", 1), ("three", 3))
                },
                [{"pattern": ["one", "three", "three", "one"]}],
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 0.01},
                embedding={"rope_theta": 500000.0},
            ),
            {
                **LIBRARY,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "num_experts": 6,
                "moe_topk": [1, 3, 3, 1],
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
            },
        ),
    },
    features=(
        Feature("norm of queries and keys after the rotation", {f"{ATTENTION}.qk_norm.place": GONE}),
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("router in float32", {f"{MOE}.router_float32": GONE, f"{MOE}.router_dtype": GONE}, shows="bfloat16"),
        Feature("one expert a token in outer layers", {"layer_templates.one.ffn.moe.top_k": 3}, case="by layer"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="by layer"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="by layer"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="by layer"),
        Feature("eps", {"model.norm_eps": GONE}, case="by layer"),
    ),
)
