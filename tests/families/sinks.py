"""Families whose heads have a sink: Granite SWA, gpt-oss."""

from __future__ import annotations

from typing import Any

import torch

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.specs import BIASED, GLOBAL, LIBRARY, LOCAL, SHALLOW, block, default_rope, document


def granite_templates(window: int, attention: dict[str, Any], ffn: dict[str, Any]) -> dict[str, Spec]:
    """A global layer that does not rotate and a local one that does, both with a sink."""
    attention = {"attention_sinks": {"placement": "gate"}, "scale": 0.015625, **attention}
    residual = {"scaling": 0.22}
    return {
        "global": block({**attention, "rope": "none"}, ffn, residual=residual),
        "local": block({**attention, "window": window}, ffn, residual=residual),
    }


GRANITE_MULTIPLIERS: dict[str, Any] = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.015625,
    "residual_multiplier": 0.22,
    "logits_scaling": 6.0,
}
GRANITE_SWA = Family(
    name="granite_swa",
    config="GraniteSWAConfig",
    model="GraniteSWAForCausalLM",
    cases={
        "base": Case(
            document(
                "granite_swa_tiny",
                granite_templates(8, {}, {}),
                [{"pattern": ["global", "local", "local"]}],
                model={"norm_eps": 1.0e-5},
                embedding={"scale": 12.0},
                head={"logit_divisor": 6.0},
            ),
            {
                **LIBRARY,
                **GRANITE_MULTIPLIERS,
                "num_hidden_layers": 3,
                "sliding_window": 8,
                "layer_rope_theta": [0.0, 10000.0, 10000.0],
            },
        ),
        "biased": Case(
            document(
                "granite_swa_biased",
                granite_templates(5, BIASED, {"bias": True, "activation": "geglu"}),
                [{"pattern": ["local", "global"]}],
                model={"norm_eps": 0.01, "n_kv_heads": 4},
                embedding={"rope_theta": 500.0, "scale": 12.0},
                head={**UNTIED, "logit_divisor": 6.0},
            ),
            {
                **SHALLOW,
                **GRANITE_MULTIPLIERS,
                "num_key_value_heads": 4,
                "sliding_window": 5,
                "layer_types": ["sliding_attention", "full_attention"],
                "layer_rope_theta": [500.0, 0.0],
                "attention_bias": True,
                "mlp_bias": True,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": False,
            },
        ),
    },
    features=(
        Feature("sinks", {f"{ATTENTION}.attention_sinks": GONE}),
        Feature("global layers without rope", {f"{GLOBAL}.rope": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("embedding multiplier", {"embedding.scale": GONE}),
        Feature("attention multiplier", {f"{ATTENTION}.scale": GONE}),
        Feature("residual multiplier", {"layer_templates.*.residual.scaling": GONE}),
        Feature("logit divisor", {"head.logit_divisor": GONE}),
        Feature("tied head", {"head": {**UNTIED, "logit_divisor": 6.0}}, shows="gradients"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)


def even_and_odd(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Gates and what they multiply, which the library stores in turn, one after the other; matrices as (out, in)."""
    tensor = torch.cat((tensor[..., ::2], tensor[..., 1::2]), dim=-1)
    return (tensor.mT if tensor.dim() == 3 else tensor,)


def turned(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Matrices (experts, in, out) as (experts, out, in)."""
    return (tensor.mT,)


OSS_YARN = {
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 4.0,
    "beta_slow": 0.3,
    "truncate": False,
}
OSS_CLAMP = {"alpha": 1.702, "offset": True}
OSS_EXPERTS: dict[str, Any] = {
    "experts": 4,
    "top_k": 2,
    "expert_bias": True,
    "router_bias": True,
    "score_over": "chosen",
    "scores_dtype": "model",
}


def oss_templates(window: int, experts: dict[str, Any], limit: float) -> dict[str, Spec]:
    """A local and a global layer with sinks, and experts with biases behind a clamp."""
    attention: dict[str, Any] = {**BIASED, "attention_sinks": {"placement": "softmax"}}
    ffn = {"type": "moe", "clamp": {**OSS_CLAMP, "limit": limit}, "moe": {**OSS_EXPERTS, **experts}}
    norm = {"float32_weight": True}
    return {"local": block({**attention, "window": window}, ffn, norm), "global": block(attention, ffn, norm)}


OSS_SIZES: dict[str, Any] = {
    **LIBRARY,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "swiglu_limit": 0.6,
    "router_aux_loss_coef": 0.02,
}
GPT_OSS = Family(
    name="gpt_oss",
    config="GptOssConfig",
    model="GptOssForCausalLM",
    losses={"output_router_logits": True},
    cases={
        "base": Case(
            document(
                "gpt_oss_tiny",
                oss_templates(8, {"load_balance_coef": 0.02}, 0.6),
                [{"pattern": ["local", "global"], "layers": 3}],
                model={"head_dim": 24, "norm_eps": 1.0e-5},
                embedding={"rope": {"theta": 150000.0, "scaling": {"type": "yarn", **OSS_YARN}}},
                head=UNTIED,
            ),
            {
                **OSS_SIZES,
                "num_hidden_layers": 3,
                "head_dim": 24,
                "sliding_window": 8,
                "rope_parameters": {"rope_type": "yarn", "rope_theta": 150000.0, **OSS_YARN},
            },
        ),
        "reordered": Case(
            document(
                "gpt_oss_reordered",
                oss_templates(5, {"top_k": 3, "load_balance_coef": 0.1}, 0.3),
                [{"pattern": ["global", "local"]}],
                model={"head_dim": 16, "n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"theta": 50000.0}},
            ),
            {
                **OSS_SIZES,
                "num_hidden_layers": 2,
                "head_dim": 16,
                "num_key_value_heads": 4,
                "num_experts_per_tok": 3,
                "sliding_window": 5,
                "layer_types": ["full_attention", "sliding_attention"],
                "router_aux_loss_coef": 0.1,
                "swiglu_limit": 0.3,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    renames=(
        Rename(r"(.*)\.mlp\.router\.(\w+)", (r"\1.mlp.gate.\2",)),
        Rename(r"(.*)\.mlp\.experts\.gate_up_proj", (r"\1.mlp.experts.gate_up_proj",), even_and_odd),
        Rename(r"(.*)\.mlp\.experts\.gate_up_proj_bias", (r"\1.mlp.experts.gate_up_proj_bias",), even_and_odd),
        Rename(r"(.*)\.mlp\.experts\.down_proj", (r"\1.mlp.experts.down_proj",), turned),
    ),
    features=(
        Feature("sinks", {f"{ATTENTION}.attention_sinks": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("yarn", {"embedding.rope.scaling": GONE}),
        Feature("rope theta", {"embedding.rope.theta": GONE}),
        Feature("norm weights in float32", {f"{NORM}.float32_weight": False}, shows="bfloat16"),
        Feature("clamp", {f"{FFN}.clamp.limit": 7.0}),
        Feature("slope of the gate", {f"{FFN}.clamp.alpha": 1.0}),
        Feature("offset of what the gate multiplies", {f"{FFN}.clamp.offset": False}),
        Feature("biases of experts", {f"{FFN}.moe.expert_bias": False}),
        Feature("bias of the router", {f"{FFN}.moe.router_bias": False}),
        Feature("scores of the chosen", {f"{FFN}.moe.score_over": "all"}, shows="bfloat16"),
        Feature("scores in the model's dtype", {f"{FFN}.moe.scores_dtype": GONE}, shows="bfloat16"),
        Feature("experts a token", {f"{FFN}.moe.top_k": 1}),
        Feature("load-balancing loss", {f"{FFN}.moe.load_balance_coef": 0.0}, shows="loss"),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("eps", {"model.norm_eps": GONE}, case="reordered"),
        Feature("tied head", {"head": UNTIED}, case="reordered", shows="gradients"),
        Feature(
            "order of local and global layers",
            {"layer_schedule": [{"pattern": ["local", "global"]}]},
            case="reordered",
        ),
    ),
)
