"""Gemma 4 in text: heads by kind of layer, values without a projection, layers that share keys and values."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.gemma_like import NARROW, SCALED, TANH
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.specs import BIASED, GLOBAL, LIBRARY, LOCAL, block, default_rope, document

LATE = "layer_templates.late_local.mixer.attention"
LOCALS = (LOCAL, LATE)
GLOBALS = (GLOBAL, "layer_templates.late_global.mixer.attention")
TURNED = ["local", "global", "local", "late_local", "late_global", "late_local", "late_global"]
SCALARS = (Rename(r"(model\.layers\.\d+\.layer_scalar)", (r"\1.weight",)),)
PROPORTIONAL = {"theta": 1000000.0, "partial": 0.25, "scaling": {"type": "proportional"}}


def gemma4_block(attention: dict[str, Any], ffn: dict[str, Any], making: dict[str, Any] | None = None) -> Spec:
    """One template; `making` is what concerns keys and values, None where they are shared."""
    queries = {"scale": 1.0, "qk_norm": {"float32_weight": True}, **attention}
    kept = {"kv": "shared"} if making is None else {"v_norm": {"weight": False}, **making}
    norm = {"position": "sandwich", "float32_weight": True}
    return block({**queries, **kept}, {**TANH, **ffn}, norm, {"layer_scalar": True})


def gemma4_templates(
    attention: dict[str, Any], local: dict[str, Any], globe: dict[str, Any], making: dict[str, Any], late: int
) -> dict[str, Spec]:
    """Local and global layers, and those that share the keys and values of either, whose FFN is `late` wide."""
    local, globe, wide = {**attention, **local}, {**attention, **globe}, {"intermediate_size": late}
    return {
        "local": gemma4_block(local, {}, {}),
        "global": gemma4_block(globe, {}, making),
        "late_local": gemma4_block(local, wide),
        "late_global": gemma4_block(globe, wide),
    }


GEMMA4_UNIFIED_TEXT = Family(
    name="gemma4_unified_text",
    config="Gemma4UnifiedTextConfig",
    model="Gemma4UnifiedForCausalLM",
    renames=SCALARS,
    cases={
        "base": Case(
            document(
                "gemma4_unified_tiny",
                gemma4_templates({}, {"window": 8}, {"head_dim": 32, "rope": PROPORTIONAL}, {}, 192),
                [{"pattern": ["local", "local", "global"]}, {"pattern": ["late_local", "late_global"], "repeat": 2}],
                model=NARROW,
                embedding=SCALED,
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 7,
                "hidden_size": 48,
                "head_dim": 16,
                "global_head_dim": 32,
                "sliding_window": 8,
                "num_kv_shared_layers": 4,
                "use_double_wide_mlp": True,
                "layer_types": ["sliding_attention", *["sliding_attention", "full_attention"] * 3],
            },
        ),
        "keys as values": Case(
            document(
                "gemma4_unified_keys_as_values",
                gemma4_templates(
                    BIASED,
                    {"window": 5},
                    {"head_dim": 24, "n_kv_heads": 1, "rope": {"theta": 50000.0}},
                    {"k_eq_v": True},
                    96,
                ),
                [{"pattern": ["local", "global", "local", "late_global", "late_local", "late_global"]}],
                model={"head_dim": 16, "norm_eps": 0.01},
                embedding={"rope_theta": 500.0, "scale": 8.0, "scale_rounding": "dtype"},
                head={**UNTIED, "logit_softcap": 3.0},
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 6,
                "num_kv_shared_layers": 3,
                "head_dim": 16,
                "global_head_dim": 24,
                "num_global_key_value_heads": 1,
                "attention_k_eq_v": True,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "sliding_window": 5,
                "final_logit_softcapping": 3.0,
                "tie_word_embeddings": False,
                "layer_types": ["sliding_attention", "full_attention"] * 3,
                "rope_parameters": {
                    "sliding_attention": default_rope(500.0),
                    "full_attention": default_rope(50000.0),
                },
            },
        ),
    },
    features=(
        Feature("shared keys and values", {f"{LATE}.kv": "own"}, shows="weights"),
        Feature("order of local and global layers", {"layer_schedule": [{"pattern": TURNED}]}, shows="weights"),
        Feature("width of global heads", {f"{path}.head_dim": GONE for path in GLOBALS}, shows="weights"),
        Feature("wider feed-forward networks where keys are shared", {f"{FFN}.intermediate_size": 96}, shows="weights"),
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}, shows="weights"),
        Feature("query and key norm in float32", {f"{ATTENTION}.qk_norm": "head"}, shows="bfloat16"),
        Feature("value norm", {f"{path}.v_norm": GONE for path in (LOCAL, GLOBAL)}),
        Feature("value norm without a weight", {f"{path}.v_norm": {} for path in (LOCAL, GLOBAL)}, shows="weights"),
        Feature("norms around sublayers", {f"{NORM}.position": "pre"}, shows="weights"),
        Feature("norm weights in float32", {f"{NORM}.float32_weight": False}, shows="bfloat16"),
        Feature("factor on the result of a layer", {"layer_templates.*.residual.layer_scalar": GONE}, shows="weights"),
        Feature("attention scale", {f"{ATTENTION}.scale": GONE}),
        Feature("window", {f"{path}.window": GONE for path in LOCALS}),
        Feature("width of the window", {f"{path}.window": 9 for path in LOCALS}),
        Feature("global layers", {f"{path}.window": 8 for path in GLOBALS}),
        Feature("rope of the global layers", {f"{path}.rope": GONE for path in GLOBALS}),
        Feature("theta of the global layers", {f"{path}.rope.theta": GONE for path in GLOBALS}),
        Feature("a share of the head rotates", {f"{path}.rope.partial": 0.5 for path in GLOBALS}),
        Feature("proportional frequencies", {f"{path}.rope.scaling": GONE for path in GLOBALS}),
        Feature("tanh approximation of gelu", {f"{FFN}.activation": "gelu"}),
        Feature("embedding scale", {"embedding.scale": GONE, "embedding.scale_rounding": GONE}),
        Feature("rounding of the embedding scale", {"embedding.scale_rounding": GONE}, shows="bfloat16"),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("keys as values", {f"{GLOBAL}.k_eq_v": GONE}, case="keys as values", shows="weights"),
        Feature(
            "key/value heads of the global layers",
            {f"{path}.n_kv_heads": GONE for path in GLOBALS},
            case="keys as values",
            shows="weights",
        ),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="keys as values"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="keys as values"),
        Feature("logit softcap", {"head.logit_softcap": GONE}, case="keys as values"),
        Feature("eps", {"model.norm_eps": GONE}, case="keys as values"),
        Feature("theta of the local layers", {"embedding.rope_theta": GONE}, case="keys as values"),
    ),
)


ROUTED = {"experts": 4, "top_k": 2, "expert_size": 32, "load_balance_coef": 0.0}
ROUTER = {"router_norm": {"weight": False}, "router_gain": True, "expert_gain": True}
SPARSE = f"{FFN}.branches.routed"
BRANCHES = (f"{FFN}.branches.dense", SPARSE)
WEIGHT = {"float32_weight": True}


def gemma4_routed(attention: dict[str, Any], making: dict[str, Any], **moe: Any) -> Spec:
    """A template with experts beside the feed-forward network."""
    experts = {**ROUTED, **ROUTER, "expert_norm": WEIGHT, **moe}
    branches = {
        "dense": {**TANH, "type": "gated_mlp", "after": WEIGHT},
        "routed": {**TANH, "type": "moe", "input": "stream", "after": WEIGHT, "moe": experts},
    }
    return {**gemma4_block(attention, {}, making), "ffn": {"type": "parallel", "branches": branches}}


PER_LAYER = (
    Rename(r"(.*)\.per_layer_input_gate\.weight", (r"\1.per_layer_input.gate_proj.weight",)),
    Rename(r"(.*)\.per_layer_projection\.weight", (r"\1.per_layer_input.out_proj.weight",)),
    Rename(r"(.*)\.post_per_layer_input_norm\.weight", (r"\1.per_layer_input.norm.weight",)),
    Rename(r"(.*)\.embed_tokens_per_layer\.weight", (r"\1.per_layer_embedding.embed_tokens.weight",)),
    Rename(r"(.*)\.per_layer_model_projection\.weight", (r"\1.per_layer_embedding.proj.weight",)),
    Rename(r"(.*)\.per_layer_projection_norm\.weight", (r"\1.per_layer_embedding.norm.weight",)),
)
EMBEDDED = {"width": 8, "norm": {"float32_weight": True}}


GEMMA4_TEXT = Family(
    name="gemma4_text",
    config="Gemma4TextConfig",
    model="Gemma4ForCausalLM",
    renames=(
        *SCALARS,
        Rename(r"(.*)\.mlp\.(\w+_proj\.weight)", (r"\1.dense_mlp.\2",)),
        Rename(r"(.*)\.router\.proj\.weight", (r"\1.routed_mlp.gate.weight",)),
        Rename(r"(.*)\.router\.scale", (r"\1.routed_mlp.router_scale",)),
        Rename(r"(.*)\.router\.per_expert_scale", (r"\1.routed_mlp.expert_scale",)),
        Rename(r"(.*)\.experts\.(\w+)", (r"\1.routed_mlp.experts.\2",)),
        Rename(r"(.*)\.pre_feedforward_layernorm_2\.weight", (r"\1.routed_mlp.expert_norm.weight",)),
        Rename(r"(.*)\.post_feedforward_layernorm_1\.weight", (r"\1.post_dense_layernorm.weight",)),
        Rename(r"(.*)\.post_feedforward_layernorm_2\.weight", (r"\1.post_routed_layernorm.weight",)),
        *PER_LAYER,
    ),
    cases={
        "base": Case(
            document(
                "gemma4_text_tiny",
                {
                    "local": gemma4_routed({"window": 8}, {}),
                    "global": gemma4_routed({"head_dim": 32, "rope": PROPORTIONAL}, {}),
                },
                [{"pattern": ["local", "global"], "repeat": 2}],
                model=NARROW,
                embedding=SCALED,
            ),
            {
                **LIBRARY,
                "hidden_size": 48,
                "head_dim": 16,
                "global_head_dim": 32,
                "sliding_window": 8,
                "hidden_size_per_layer_input": 0,
                "enable_moe_block": True,
                "num_experts": 4,
                "top_k_experts": 2,
                "moe_intermediate_size": 32,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
            },
        ),
        "keys as values": Case(
            document(
                "gemma4_text_keys_as_values",
                {
                    "local": gemma4_routed({**BIASED, "window": 5}, {}, experts=6, top_k=3),
                    "global": gemma4_routed(
                        {**BIASED, "head_dim": 24, "n_kv_heads": 1, "rope": {"theta": 50000.0}},
                        {"k_eq_v": True},
                        experts=6,
                        top_k=3,
                    ),
                },
                [{"pattern": ["local", "global"]}],
                model={"head_dim": 16, "norm_eps": 0.01},
                embedding={"rope_theta": 500.0, "scale": 8.0, "scale_rounding": "dtype"},
                head={**UNTIED, "logit_softcap": 3.0},
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 2,
                "head_dim": 16,
                "global_head_dim": 24,
                "num_global_key_value_heads": 1,
                "attention_k_eq_v": True,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "sliding_window": 5,
                "final_logit_softcapping": 3.0,
                "tie_word_embeddings": False,
                "hidden_size_per_layer_input": 0,
                "enable_moe_block": True,
                "num_experts": 6,
                "top_k_experts": 3,
                "moe_intermediate_size": 32,
                "layer_types": ["sliding_attention", "full_attention"],
                "rope_parameters": {
                    "sliding_attention": default_rope(500.0),
                    "full_attention": default_rope(50000.0),
                },
            },
        ),
        "per-layer embeddings": Case(
            document(
                "gemma4_text_embedded",
                {
                    "local": gemma4_routed({"window": 8}, {}),
                    "global": gemma4_routed({"head_dim": 32, "rope": PROPORTIONAL}, {}),
                },
                [{"pattern": ["local", "global"], "repeat": 2}],
                model=NARROW,
                embedding={**SCALED, "per_layer": EMBEDDED},
            ),
            {
                **LIBRARY,
                "hidden_size": 48,
                "head_dim": 16,
                "global_head_dim": 32,
                "sliding_window": 8,
                "hidden_size_per_layer_input": 8,
                "vocab_size_per_layer_input": LIBRARY["vocab_size"],
                "enable_moe_block": True,
                "num_experts": 4,
                "top_k_experts": 2,
                "moe_intermediate_size": 32,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
            },
        ),
    },
    features=(
        Feature("norm of what the router reads", {f"{SPARSE}.moe.router_norm": GONE}),
        Feature("that norm has no weight", {f"{SPARSE}.moe.router_norm": {}}, shows="weights"),
        Feature("factors on what the router reads", {f"{SPARSE}.moe.router_gain": GONE}, shows="weights"),
        Feature("a factor on the weight of each expert", {f"{SPARSE}.moe.expert_gain": GONE}, shows="weights"),
        Feature("norm of what experts read", {f"{SPARSE}.moe.expert_norm": GONE}, shows="weights"),
        Feature("that norm in float32", {f"{SPARSE}.moe.expert_norm": {}}, shows="bfloat16"),
        Feature("experts read the stream", {f"{SPARSE}.input": GONE}),
        Feature("norms on the branches", {f"{path}.after": GONE for path in BRANCHES}, shows="weights"),
        Feature("those norms in float32", {f"{path}.after": {} for path in BRANCHES}, shows="bfloat16"),
        Feature("two experts a token", {f"{SPARSE}.moe.top_k": 1}),
        Feature("tanh approximation of gelu", {f"{path}.activation": "gelu" for path in BRANCHES}),
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}, shows="weights"),
        Feature("value norm", {f"{ATTENTION}.v_norm": GONE}),
        Feature("norms around sublayers", {f"{NORM}.position": "pre"}, shows="weights"),
        Feature("norm weights in float32", {f"{NORM}.float32_weight": False}, shows="bfloat16"),
        Feature("factor on the result of a layer", {"layer_templates.*.residual.layer_scalar": GONE}, shows="weights"),
        Feature("attention scale", {f"{ATTENTION}.scale": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("rope of the global layers", {f"{GLOBAL}.rope": GONE}),
        Feature("embedding scale", {"embedding.scale": GONE, "embedding.scale_rounding": GONE}),
        Feature("rounding of the embedding scale", {"embedding.scale_rounding": GONE}, shows="bfloat16"),
        Feature("keys as values", {f"{GLOBAL}.k_eq_v": GONE}, case="keys as values", shows="weights"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="keys as values"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="keys as values"),
        Feature("logit softcap", {"head.logit_softcap": GONE}, case="keys as values"),
        Feature("eps", {"model.norm_eps": GONE}, case="keys as values"),
        Feature("theta of the local layers", {"embedding.rope_theta": GONE}, case="keys as values"),
        Feature("per-layer embeddings", {"embedding.per_layer": GONE}, case="per-layer embeddings", shows="weights"),
        Feature("activation of their gates", {"embedding.per_layer.activation": "silu"}, case="per-layer embeddings"),
        Feature(
            "their norms in float32", {"embedding.per_layer.norm": {}}, case="per-layer embeddings", shows="bfloat16"
        ),
    ),
)
