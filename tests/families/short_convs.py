"""Families with short convolutions: LFM2, LFM2-MoE."""

from __future__ import annotations

from typing import Any

from tests.families.dense import UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.specs import LIBRARY, default_rope, document

DENSE: dict[str, Any] = {"type": "gated_mlp"}
ATTENTION = "layer_templates.attending.mixer.attention"
CONV = "layer_templates.convolved.mixer"


def convolved(**options: Any) -> Spec:
    """A layer template with a short convolution."""
    mixer = {"type": "short_conv", "short_conv": options} if options else {"type": "short_conv"}
    return {"mixer": mixer, "ffn": DENSE}


def attending(**options: Any) -> Spec:
    """A layer template with attention whose queries and keys are normed."""
    return {"mixer": {"type": "attention", "attention": {"qk_norm": "head", **options}}, "ffn": DENSE}


SIZES: dict[str, Any] = {
    **{name: value for name, value in LIBRARY.items() if name != "rms_norm_eps"},
    "block_auto_adjust_ff_dim": False,
    "norm_eps": 1.0e-5,
    "layer_types": ["conv", "full_attention", "conv", "conv"],
    "num_hidden_layers": 4,
}
RENAMES = (
    Rename(r"model\.embedding_norm\.weight", ("model.norm.weight",)),
    Rename(r"(.*)\.operator_norm\.weight", (r"\1.input_layernorm.weight",)),
    Rename(r"(.*)\.ffn_norm\.weight", (r"\1.post_attention_layernorm.weight",)),
    Rename(r"(.*)\.feed_forward\.w1\.weight", (r"\1.mlp.gate_proj.weight",)),
    Rename(r"(.*)\.feed_forward\.w3\.weight", (r"\1.mlp.up_proj.weight",)),
    Rename(r"(.*)\.feed_forward\.w2\.weight", (r"\1.mlp.down_proj.weight",)),
    Rename(r"(.*)\.self_attn\.out_proj\.weight", (r"\1.self_attn.o_proj.weight",)),
    Rename(r"(.*)\.self_attn\.q_layernorm\.weight", (r"\1.self_attn.q_norm.weight",)),
    Rename(r"(.*)\.self_attn\.k_layernorm\.weight", (r"\1.self_attn.k_norm.weight",)),
)

LFM2 = Family(
    name="lfm2",
    config="Lfm2Config",
    model="Lfm2ForCausalLM",
    cases={
        "base": Case(
            document(
                "lfm2_tiny",
                {"convolved": convolved(), "attending": attending()},
                [{"pattern": ["convolved", "attending", "convolved", "convolved"]}],
                model={"norm_eps": 1.0e-5},
                embedding={"rope_theta": 1000000.0},
            ),
            {
                **SIZES,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            },
        ),
        "wide": Case(
            document(
                "lfm2_wide",
                {"convolved": convolved(kernel=5), "attending": attending()},
                [{"pattern": ["convolved", "attending"], "repeat": 2}],
                model={"norm_eps": 0.01},
                embedding={"rope_theta": 500.0},
                head=UNTIED,
            ),
            {
                **SIZES,
                "conv_L_cache": 5,
                "norm_eps": 0.01,
                "layer_types": ["conv", "full_attention"] * 2,
                "rope_parameters": default_rope(500.0),
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=RENAMES,
    features=(
        Feature("convolution", {CONV: {"type": "attention"}}, shows="weights"),
        Feature("tokens that it sees", {f"{CONV}.short_conv.kernel": GONE}, case="wide", shows="weights"),
        Feature("norm on queries and keys", {f"{ATTENTION}.qk_norm": GONE}, shows="weights"),
        Feature("eps of the norms", {"model.norm_eps": GONE}, case="wide"),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
    ),
)


def routed(**options: Any) -> dict[str, Any]:
    """A feed-forward of experts as LFM2-MoE has them: sigmoids in the model's dtype, corrected by a bias."""
    experts = {"experts": 8, "top_k": 2, "expert_size": 32, "router": "sigmoid", "load_balance_coef": 0.0}
    return {"type": "moe", "moe": {**experts, "scores_dtype": "model", **options}}


def mixed(conv: dict[str, Any], moe: dict[str, Any]) -> dict[str, Spec]:
    """Dense layers of convolutions, and those of both kinds with experts."""
    return {
        "dense": convolved(**conv),
        "convolved": {**convolved(**conv), "ffn": moe},
        "attending": {**attending(), "ffn": moe},
    }


ROUTED_SIZES: dict[str, Any] = {
    **{name: value for name, value in SIZES.items() if name != "block_auto_adjust_ff_dim"},
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
}
MOE = "layer_templates.*.ffn.moe"

LFM2_MOE = Family(
    name="lfm2_moe",
    config="Lfm2MoeConfig",
    model="Lfm2MoeForCausalLM",
    cases={
        "base": Case(
            document(
                "lfm2_moe_tiny",
                mixed({}, routed(bias_correction={"enabled": True}, normalize={"eps": 1e-6})),
                [{"pattern": ["dense", "dense", "attending", "convolved"]}],
                model={"norm_eps": 1.0e-5},
                embedding={"rope_theta": 1000000.0},
            ),
            {
                **ROUTED_SIZES,
                "num_dense_layers": 2,
                "layer_types": ["conv", "conv", "full_attention", "conv"],
                "rope_parameters": default_rope(1000000.0),
            },
        ),
        "unbiased": Case(
            document(
                "lfm2_moe_unbiased",
                mixed({"kernel": 4}, routed(normalize=False, scale=1.7)),
                [{"pattern": ["dense", "attending", "convolved"]}],
                model={"norm_eps": 0.01},
                embedding={"rope_theta": 500.0},
                head=UNTIED,
            ),
            {
                **ROUTED_SIZES,
                "num_hidden_layers": 3,
                "num_dense_layers": 1,
                "layer_types": ["conv", "full_attention", "conv"],
                "conv_L_cache": 4,
                "norm_eps": 0.01,
                "norm_topk_prob": False,
                "routed_scaling_factor": 1.7,
                "use_expert_bias": False,
                "rope_parameters": default_rope(500.0),
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=(
        *RENAMES,
        Rename(r"(.*)\.feed_forward\.expert_bias", (r"\1.mlp.gate.e_score_correction_bias",)),
        Rename(r"(.*)\.feed_forward\.(gate|experts)\.(.*)", (r"\1.mlp.\2.\3",)),
    ),
    features=(
        Feature("convolution", {"layer_templates.dense.mixer": {"type": "attention"}}, shows="weights"),
        Feature(
            "tokens that it sees",
            {"layer_templates.*.mixer.short_conv.kernel": GONE},
            case="unbiased",
            shows="weights",
        ),
        Feature("norm on queries and keys", {f"{ATTENTION}.qk_norm": GONE}, shows="weights"),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("dtype of the scores", {f"{MOE}.scores_dtype": GONE}, shows="bfloat16"),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("what is added to the sum", {f"{MOE}.normalize.eps": 0.01}),
        Feature("weights as they are", {f"{MOE}.normalize": GONE}, case="unbiased"),
        Feature("factor on the weights", {f"{MOE}.scale": GONE}, case="unbiased"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("eps of the norms", {"model.norm_eps": GONE}, case="unbiased"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="unbiased"),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
    ),
)
