"""Dense families with windows: Mistral, Gemma 2, Cohere 2."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Spec
from tests.families.specs import GLOBAL, LIBRARY, LOCAL, block, document

MISTRAL = Family(
    name="mistral",
    config="MistralConfig",
    model="MistralForCausalLM",
    cases={
        "base": Case(
            document("mistral_tiny", {"block": block({"window": 8})}, model={"head_dim": 16}, head=UNTIED),
            {**LIBRARY, "head_dim": 16, "sliding_window": 8},
        ),
        "full": Case(
            document(
                "mistral_full",
                {"block": block()},
                model={"head_dim": 24, "norm_eps": 0.01, "n_kv_heads": 1},
                embedding={"rope_theta": 1000000.0},
            ),
            {
                **LIBRARY,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "rms_norm_eps": 0.01,
                "sliding_window": None,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            },
        ),
    },
    features=(
        Feature("window", {f"{ATTENTION}.window": GONE}),
        Feature("width of the window", {f"{ATTENTION}.window": 9}),
        Feature("rope", {"embedding.positional": "none"}),
        Feature("no window", {f"{ATTENTION}.window": 8}, case="full"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="full"),
        Feature("eps", {"model.norm_eps": GONE}, case="full"),
        Feature("tied head", {"head.tie_weights": False}, case="full", shows="gradients"),
    ),
)


def gemma2_templates(attention: dict[str, Any], window: int, activation: str) -> dict[str, Spec]:
    """A local and a global layer with norms around each sublayer."""
    ffn = {"activation": activation}
    norm = {"position": "sandwich", "unit_offset": True}
    return {"local": block({**attention, "window": window}, ffn, norm), "global": block(attention, ffn, norm)}


GEMMA2 = Family(
    name="gemma2",
    config="Gemma2Config",
    model="Gemma2ForCausalLM",
    cases={
        # 48 and not 64: the root of the width is not exact in bfloat16
        "base": Case(
            document(
                "gemma2_tiny",
                gemma2_templates({"softcap": 50.0, "scale": 24**-0.5}, 8, "gelu_pytorch_tanh"),
                [{"pattern": ["local", "global"], "repeat": 2}],
                model={"d_model": 48, "head_dim": 16},
                embedding={"scale": 48**0.5, "scale_rounding": "dtype"},
                head={"logit_softcap": 30.0},
            ),
            {**LIBRARY, "hidden_size": 48, "head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 8},
        ),
        "biased": Case(
            document(
                "gemma2_biased",
                gemma2_templates({"softcap": 5.0, "qkv_bias": True, "out_bias": True}, 5, "geglu"),
                [{"template": "global"}, {"template": "local", "repeat": 2}, {"template": "global"}],
                model={"head_dim": 16, "norm_eps": 0.01},
                embedding={"scale": 8.0, "scale_rounding": "dtype"},
                head={"logit_softcap": 3.0},
            ),
            {
                **LIBRARY,
                "head_dim": 16,
                "query_pre_attn_scalar": 16,
                "attention_bias": True,
                "hidden_activation": "gelu",
                "rms_norm_eps": 0.01,
                "sliding_window": 5,
                "attn_logit_softcapping": 5.0,
                "final_logit_softcapping": 3.0,
                "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            },
        ),
        "uncapped": Case(
            document(
                "gemma2_uncapped",
                {"global": gemma2_templates({}, 8, "gelu_pytorch_tanh")["global"]},
                [{"template": "global", "repeat": 2}],
                model={"head_dim": 24, "n_kv_heads": 4},
                embedding={"scale": 8.0, "scale_rounding": "dtype"},
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 2,
                "head_dim": 24,
                "num_key_value_heads": 4,
                "query_pre_attn_scalar": 24,
                "attn_logit_softcapping": None,
                "final_logit_softcapping": None,
                "layer_types": ["full_attention", "full_attention"],
            },
        ),
    },
    features=(
        Feature("attention softcap", {f"{ATTENTION}.softcap": GONE}),
        Feature("logit softcap", {"head.logit_softcap": GONE}),
        Feature("norms around sublayers", {f"{NORM}.position": "pre"}),
        Feature("norms on the outputs alone", {f"{NORM}.position": "output"}),
        Feature("unit offset of norm weights", {f"{NORM}.unit_offset": False}),
        Feature("embedding scale", {"embedding.scale": GONE, "embedding.scale_rounding": GONE}),
        Feature("rounding of the embedding scale", {"embedding.scale_rounding": GONE}, shows="bfloat16"),
        Feature("attention scale", {f"{ATTENTION}.scale": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("activation", {f"{FFN}.activation": GONE}),
        Feature("tied head", {"head.tie_weights": False}, shows="gradients"),
        Feature("exact gelu", {f"{FFN}.activation": "gelu_pytorch_tanh"}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature(
            "order of local and global layers",
            {"layer_schedule": [{"pattern": ["local", "global"], "repeat": 2}]},
            case="biased",
        ),
        Feature("scores without a cap", {f"{ATTENTION}.softcap": 5.0}, case="uncapped"),
        Feature("logits without a cap", {"head.logit_softcap": 5.0}, case="uncapped"),
    ),
)


def cohere2_templates(attention: dict[str, Any], window: int) -> dict[str, Spec]:
    """A local layer with interleaved rope and a global one without positions; one norm, sublayers side by side."""
    rope = {"interleaved": True, "precision": "float32_rotation"}
    norm = {"type": "layernorm", "bias": False, "float32_weight": True}
    return {
        "local": block({**attention, "window": window, "rope": rope}, norm=norm, residual={"type": "parallel"}),
        "global": block({**attention, "rope": "none"}, norm=norm, residual={"type": "parallel"}),
    }


COHERE2 = Family(
    name="cohere2",
    config="Cohere2Config",
    model="Cohere2ForCausalLM",
    cases={
        "base": Case(
            document(
                "cohere2_tiny",
                cohere2_templates({}, 8),
                [{"pattern": ["local", "local", "local", "global"]}],
                model={"head_dim": 16},
                head={"logit_scale": 0.0625},
            ),
            {
                **LIBRARY,
                "head_dim": 16,
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
            },
        ),
        "biased": Case(
            document(
                "cohere2_biased",
                cohere2_templates({"qkv_bias": True, "out_bias": True}, 5),
                [{"pattern": ["global", "local"], "layers": 3}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope_theta": 50000.0},
                head={**UNTIED, "logit_scale": 0.5},
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 3,
                "num_key_value_heads": 4,
                "attention_bias": True,
                "layer_norm_eps": 0.01,
                "logit_scale": 0.5,
                "sliding_window": 5,
                "tie_word_embeddings": False,
                "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            },
        ),
    },
    features=(
        Feature("interleaved rope", {f"{LOCAL}.rope.interleaved": False}),
        Feature("global layers without rope", {f"{GLOBAL}.rope": GONE}),
        Feature("parallel sublayers", {"layer_templates.*.residual.type": "sequential"}),
        Feature("one norm for both sublayers", {"layer_templates.*.residual.shared_norm": False}),
        Feature("layer norm", {f"{NORM}": {"type": "rmsnorm"}}),
        Feature("rotation in float32", {f"{LOCAL}.rope.precision": GONE}, shows="bfloat16"),
        Feature("logit scale", {"head.logit_scale": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("tied head", {"head.tie_weights": False}, shows="gradients"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="biased"),
    ),
)
