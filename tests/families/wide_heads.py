"""Families whose value heads are narrower than their key heads: MiMo-V2-Flash."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Spec
from tests.families.routed_sigmoid import GROUPED, MOE, SIGMOID, routed
from tests.families.specs import GLOBAL, LIBRARY, LOCAL, block, default_rope, document


def mimo_templates(window: int, attention: dict[str, Any], experts: dict[str, Any], theta: float) -> dict[str, Spec]:
    """Full layers, the first without experts, and local ones with sinks, more key heads and a rope of their own."""
    local = {
        **attention,
        "window": window,
        "n_kv_heads": 2,
        "attention_sinks": {"placement": "softmax"},
        "rope": {"theta": theta},
    }
    return {
        "dense": block(attention),
        "global": block(attention, routed(experts)),
        "local": block(local, routed(experts)),
    }


MIMO_SIZES: dict[str, Any] = {
    **LIBRARY,
    "num_hidden_layers": 3,
    "num_key_value_heads": 1,
    "head_dim": 24,
    "v_head_dim": 16,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    "mlp_layer_types": ["dense", "sparse", "sparse"],
}
SCHEDULE = [{"pattern": ["dense", "local", "global"]}]
MIMO_EXPERTS = {name: value for name, value in GROUPED.items() if name != "shared_experts"}
MIMO_V2_FLASH = Family(
    name="mimo_v2_flash",
    config="MiMoV2FlashConfig",
    model="MiMoV2FlashForCausalLM",
    rounding="the library takes the softmax in the model's dtype in layers without sinks too",
    cases={
        "base": Case(
            document(
                "mimo_tiny",
                mimo_templates(8, {"v_head_dim": 16, "value_scale": 0.707}, MIMO_EXPERTS, 10000.0),
                SCHEDULE,
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 1.0e-5},
                embedding={"rope": {"theta": 5000000.0, "partial": 0.5}},
                head=UNTIED,
            ),
            {
                **MIMO_SIZES,
                "sliding_window": 8,
                "n_group": 4,
                "topk_group": 2,
                "routed_scaling_factor": 2.5,
                "rope_parameters": {
                    "full_attention": default_rope(5000000.0, partial_rotary_factor=0.5),
                    "sliding_attention": default_rope(10000.0, partial_rotary_factor=0.5),
                },
            },
        ),
        "biased": Case(
            document(
                "mimo_biased",
                mimo_templates(
                    5,
                    {"v_head_dim": 16, "qkv_bias": True},
                    {**SIGMOID, "router_float32": True, "normalize": False, "top_k": 3},
                    500.0,
                ),
                SCHEDULE,
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 0.01},
                embedding={"rope": {"theta": 50000.0}},
            ),
            {
                **MIMO_SIZES,
                "sliding_window": 5,
                "attention_bias": True,
                "attention_value_scale": None,
                "num_experts_per_tok": 3,
                "norm_topk_prob": False,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {
                    "full_attention": default_rope(50000.0, partial_rotary_factor=1.0),
                    "sliding_attention": default_rope(500.0, partial_rotary_factor=1.0),
                },
            },
        ),
    },
    features=(
        Feature("width of a value head", {f"{ATTENTION}.v_head_dim": 24}, shows="weights"),
        Feature("factor on the values", {f"{ATTENTION}.value_scale": GONE}),
        Feature("sinks", {f"{ATTENTION}.attention_sinks": GONE}),
        Feature(
            "sinks in local layers alone", {f"{GLOBAL}.attention_sinks": {"placement": "softmax"}}, shows="weights"
        ),
        Feature("key heads of the local layers", {f"{LOCAL}.n_kv_heads": 4}, shows="weights"),
        Feature("theta of the local layers", {f"{LOCAL}.rope.theta": 1000.0}),
        Feature("theta of the full layers", {"embedding.rope.theta": GONE}),
        Feature("partial rotation", {"embedding.rope.partial": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("full layers", {f"{GLOBAL}.window": 8}),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("experts a token", {f"{MOE}.top_k": 3}),
        Feature("weights left undivided", {f"{MOE}.normalize": True}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
    ),
)
