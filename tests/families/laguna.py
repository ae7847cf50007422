"""Laguna: gates on whole heads by softplus, numbers of heads by layer, capped sigmoid routers."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import LIBRARY, block, document

MOE = f"{FFN}.moe"
ROUTED: dict[str, Any] = {
    "experts": 4,
    "top_k": 2,
    "expert_size": 32,
    "router": "sigmoid",
    "router_softcap": 10.0,
    "bias_correction": {"dtype": "model"},
    "weights_dtype": "model",
    "scale": 1.5,
    "scale_at": "output",
    "shared_experts": 1,
    "shared_size": 48,
    "load_balance_coef": 0.0,
}
SPARSE = {"type": "moe", "moe": ROUTED}
GATE = {"over": "head", "activation": "softplus"}


def attention(**more: Any) -> dict[str, Any]:
    """Normed heads with a gate each."""
    return {"qk_norm": "head", "output_gate": GATE, **more}


SIZES = {
    **LIBRARY,
    "head_dim": 16,
    "sliding_window": 8,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_routed_scaling_factor": 1.5,
    "moe_router_logit_softcapping": 10.0,
    "num_hidden_layers": 3,
    "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
    "mlp_layer_types": ["dense", "sparse", "sparse"],
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 500000.0, "partial_rotary_factor": 0.5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
LAYERS = [{"template": "whole"}, {"template": "local", "repeat": 2}]
WIDE = {"theta": 500000.0, "partial": 0.5}
LAGUNA = Family(
    name="laguna",
    config="LagunaConfig",
    model="LagunaForCausalLM",
    renames=(Rename(r"(.*)\.self_attn\.g_proj\.weight", (r"\1.self_attn.gate_proj.weight",)),),
    cases={
        "base": Case(
            document(
                "laguna_tiny",
                {
                    "whole": block(attention(rope=WIDE)),
                    "local": block(attention(window=8, n_heads=6), SPARSE),
                },
                LAYERS,
                model={"head_dim": 16},
                head=UNTIED,
            ),
            {**SIZES, "num_attention_heads_per_layer": [4, 6, 6]},
        ),
        "by channel": Case(
            document(
                "laguna_by_channel",
                {
                    "whole": block(
                        attention(rope=WIDE, output_gate={"activation": "softplus"}, qkv_bias=True, out_bias=True)
                    ),
                    "local": block(
                        attention(window=8, output_gate={"activation": "softplus"}, qkv_bias=True, out_bias=True),
                        SPARSE,
                    ),
                },
                LAYERS,
                model={"head_dim": 16, "n_kv_heads": 1, "norm_eps": 0.01},
            ),
            {
                **SIZES,
                "num_key_value_heads": 1,
                "gating": "per-element",
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("gates on the heads", {f"{ATTENTION}.output_gate": GONE}),
        Feature("softplus", {f"{ATTENTION}.output_gate.activation": "sigmoid"}),
        Feature("gates on whole heads", {f"{ATTENTION}.output_gate.over": GONE}, shows="weights"),
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("rope of the global layers", {f"{ATTENTION}.rope": GONE}),
        Feature("partial rope of the global layers", {f"{ATTENTION}.rope.partial": GONE}),
        Feature("base of the global layers", {f"{ATTENTION}.rope.theta": GONE}),
        Feature("window", {"layer_templates.local.mixer.attention.window": 9}),
        Feature("cap on the router", {f"{MOE}.router_softcap": 0.5}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("factor on the experts", {f"{MOE}.scale": GONE, f"{MOE}.scale_at": GONE}),
        Feature("place of the factor", {f"{MOE}.scale_at": GONE}, shows="bfloat16"),
        Feature("weights in the model's dtype", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
        Feature("shared expert", {f"{MOE}.shared_experts": 0, f"{MOE}.shared_size": GONE}),
        Feature("load left alone", {f"{MOE}.load_balance_coef": GONE}, shows="gradients"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="by channel"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="by channel"),
        Feature("eps", {"model.norm_eps": GONE}, case="by channel"),
    ),
)
