"""Families whose heads' outputs pass a gate: AFMoE."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.specs import BIASED, LIBRARY, block, default_rope, document

MOE = f"{FFN}.moe"
AFMOE_EXPERTS: dict[str, Any] = {
    "experts": 4,
    "top_k": 2,
    "expert_size": 32,
    "router": "sigmoid",
    "bias_correction": {"dtype": "model"},
    "shared_experts": 1,
    "scale": 2.0,
    "load_balance_coef": 0.0,
}


def afmoe_templates(window: int, attention: dict[str, Any], experts: dict[str, Any]) -> dict[str, Spec]:
    """Local layers that rotate, the first without experts, and a global one that does not."""
    attention = {
        "qk_norm": {"float32_weight": True},
        "output_gate": {"activation": "sigmoid", "over": "element"},
        **attention,
    }
    ffn = {"type": "moe", "moe": {**AFMOE_EXPERTS, **experts}}
    norm = {"position": "sandwich", "float32_weight": True}
    local = {**attention, "window": window}
    return {
        "dense": block(local, norm=norm),
        "local": block(local, ffn, norm),
        "global": block({**attention, "rope": "none"}, ffn, norm),
    }


AFMOE_SIZES: dict[str, Any] = {
    **LIBRARY,
    "num_hidden_layers": 3,
    "head_dim": 24,
    "moe_intermediate_size": 32,
    "num_dense_layers": 1,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "route_scale": 2.0,
    "global_attn_every_n_layers": 3,
}
SCHEDULE = [{"pattern": ["dense", "local", "global"]}]
AFMOE = Family(
    name="afmoe",
    config="AfmoeConfig",
    model="AfmoeForCausalLM",
    cases={
        "base": Case(
            document(
                "afmoe_tiny",
                afmoe_templates(8, {}, {}),
                SCHEDULE,
                model={"head_dim": 24, "norm_eps": 1.0e-5},
                embedding={"scale": 8.0},
                head=UNTIED,
            ),
            {**AFMOE_SIZES, "sliding_window": 8, "mup_enabled": True},
        ),
        "biased": Case(
            document(
                "afmoe_biased",
                afmoe_templates(5, BIASED, {"top_k": 3, "scale": 1.5, "shared_experts": 2}),
                SCHEDULE,
                model={"head_dim": 24, "norm_eps": 0.01, "n_kv_heads": 4},
                embedding={"rope_theta": 50000.0},
            ),
            {
                **AFMOE_SIZES,
                "sliding_window": 5,
                "num_key_value_heads": 4,
                "num_experts_per_tok": 3,
                "num_shared_experts": 2,
                "route_scale": 1.5,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    renames=(
        Rename(r"(.*)\.mlp\.router\.gate\.weight", (r"\1.mlp.gate.weight",)),
        Rename(r"(.*)\.mlp\.expert_bias", (r"\1.mlp.gate.e_score_correction_bias",)),
        Rename(r"(.*)\.pre_mlp_layernorm\.weight", (r"\1.pre_feedforward_layernorm.weight",)),
        Rename(r"(.*)\.post_mlp_layernorm\.weight", (r"\1.post_feedforward_layernorm.weight",)),
    ),
    features=(
        Feature("gate on the heads' outputs", {f"{ATTENTION}.output_gate": GONE}),
        Feature("gate of sigmoids", {f"{ATTENTION}.output_gate.activation": "softplus"}),
        Feature("a gate for each channel", {f"{ATTENTION}.output_gate.over": "head"}, shows="weights"),
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("query and key norm in float32", {f"{ATTENTION}.qk_norm": "head"}, shows="bfloat16"),
        Feature("norms around sublayers", {f"{NORM}.position": "pre"}),
        Feature("norm weights in float32", {f"{NORM}.float32_weight": False}, shows="bfloat16"),
        Feature("global layers without rope", {"layer_templates.global.mixer.attention.rope": GONE}),
        Feature("window", {f"{ATTENTION}.window": GONE}),
        Feature("global layers", {"layer_templates.global.mixer.attention.window": 8}),
        Feature("embedding scale", {"embedding.scale": GONE}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("dense first layer", {"layer_schedule": [{"pattern": ["local", "local", "global"]}]}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
    ),
)
