"""Families after Gemma: Gemma, Gemma 3, VaultGemma. Norm weights differ from 1, embeddings are scaled by a root."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.specs import BIASED, GLOBAL, LIBRARY, LOCAL, SHALLOW, TWO, block, default_rope, document

# 48 and not 64: the root of the width is not exact in bfloat16
NARROW = {"d_model": 48, "head_dim": 16}
SCALED = {"scale": 48**0.5, "scale_rounding": "dtype"}
TANH = {"activation": "gelu_pytorch_tanh"}

GEMMA = Family(
    name="gemma",
    config="GemmaConfig",
    model="GemmaForCausalLM",
    cases={
        "base": Case(
            document(
                "gemma_tiny",
                {"block": block(ffn=TANH, norm={"unit_offset": True})},
                TWO,
                model={**NARROW, "n_kv_heads": 1},
                embedding=SCALED,
            ),
            {**SHALLOW, "hidden_size": 48, "head_dim": 16, "num_key_value_heads": 1},
        ),
        "biased": Case(
            document(
                "gemma_biased",
                {"block": block(BIASED, {"activation": "reglu"}, {"unit_offset": True})},
                TWO,
                model={"head_dim": 24, "norm_eps": 0.01},
                embedding={"rope_theta": 50000.0, "scale": 8.0, "scale_rounding": "dtype"},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "head_dim": 24,
                "attention_bias": True,
                "hidden_act": "relu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": False,
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    features=(
        Feature("unit offset of norm weights", {f"{NORM}.unit_offset": False}),
        Feature("embedding scale", {"embedding.scale": GONE, "embedding.scale_rounding": GONE}),
        Feature("rounding of the embedding scale", {"embedding.scale_rounding": GONE}, shows="bfloat16"),
        Feature("tanh approximation of gelu", {f"{FFN}.activation": "gelu"}),
        Feature("one key/value head", {"model.n_kv_heads": GONE}, shows="weights"),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="biased"),
    ),
)


def gemma3_templates(attention: dict[str, Any], window: int, rope: dict[str, Any]) -> dict[str, Spec]:
    """A local layer with the model's rope and a global one with a rope of its own; norms around each sublayer."""
    attention = {"qk_norm": {"unit_offset": True}, **attention}
    norm = {"position": "sandwich", "unit_offset": True}
    return {
        "local": block({**attention, "window": window}, TANH, norm),
        "global": block({**attention, "rope": rope}, TANH, norm),
    }


GEMMA3_TEXT = Family(
    name="gemma3_text",
    config="Gemma3TextConfig",
    model="Gemma3ForCausalLM",
    cases={
        "base": Case(
            document(
                "gemma3_tiny",
                gemma3_templates(
                    {"scale": 24**-0.5}, 8, {"theta": 1000000.0, "scaling": {"type": "linear", "factor": 8.0}}
                ),
                [{"pattern": ["local", "local", "global"]}],
                model=NARROW,
                embedding=SCALED,
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 3,
                "hidden_size": 48,
                "head_dim": 16,
                "query_pre_attn_scalar": 24,
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
                "rope_parameters": {
                    "sliding_attention": default_rope(10000.0),
                    "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
                },
            },
        ),
        "biased": Case(
            document(
                "gemma3_biased",
                gemma3_templates({**BIASED, "scale": 24**-0.5}, 5, {"theta": 50000.0}),
                [{"pattern": ["global", "local"]}],
                model={"head_dim": 24, "norm_eps": 0.01, "n_kv_heads": 4},
                embedding={"rope_theta": 500.0, "scale": 8.0, "scale_rounding": "dtype"},
                head={**UNTIED, "logit_softcap": 3.0},
            ),
            {
                **SHALLOW,
                "head_dim": 24,
                "num_key_value_heads": 4,
                "query_pre_attn_scalar": 24,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "sliding_window": 5,
                "final_logit_softcapping": 3.0,
                "tie_word_embeddings": False,
                "layer_types": ["full_attention", "sliding_attention"],
                "rope_parameters": {
                    "sliding_attention": default_rope(500.0),
                    "full_attention": default_rope(50000.0),
                },
            },
        ),
    },
    features=(
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("unit offset of query and key norm", {f"{ATTENTION}.qk_norm": "head"}),
        Feature("unit offset of norm weights", {f"{NORM}.unit_offset": False}),
        Feature("norms around sublayers", {f"{NORM}.position": "pre"}),
        Feature("embedding scale", {"embedding.scale": GONE, "embedding.scale_rounding": GONE}),
        Feature("rounding of the embedding scale", {"embedding.scale_rounding": GONE}, shows="bfloat16"),
        Feature("attention scale", {f"{ATTENTION}.scale": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("rope of the global layers", {f"{GLOBAL}.rope": GONE}),
        Feature("theta of the global layers", {f"{GLOBAL}.rope.theta": GONE}),
        Feature("linear scaling in the global layers", {f"{GLOBAL}.rope.scaling": GONE}),
        Feature("tanh approximation of gelu", {f"{FFN}.activation": "gelu"}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("theta of the local layers", {"embedding.rope_theta": GONE}, case="biased"),
        Feature("logit softcap", {"head.logit_softcap": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature(
            "order of local and global layers",
            {"layer_schedule": [{"pattern": ["local", "global"]}]},
            case="biased",
        ),
    ),
)


def vaultgemma_templates(attention: dict[str, Any], window: int) -> dict[str, Spec]:
    """A local and a global layer with norms before the sublayers only."""
    norm = {"unit_offset": True}
    return {"local": block({**attention, "window": window}, TANH, norm), "global": block(attention, TANH, norm)}


VAULTGEMMA = Family(
    name="vaultgemma",
    config="VaultGemmaConfig",
    model="VaultGemmaForCausalLM",
    cases={
        "base": Case(
            document(
                "vaultgemma_tiny",
                vaultgemma_templates({"softcap": 50.0, "scale": 24**-0.5}, 8),
                [{"pattern": ["local", "global"], "layers": 3}],
                model=NARROW,
                embedding=SCALED,
                head={"logit_softcap": 30.0},
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 3,
                "hidden_size": 48,
                "head_dim": 16,
                "query_pre_attn_scalar": 24,
                "sliding_window": 8,
            },
        ),
        "uncapped": Case(
            document(
                "vaultgemma_uncapped",
                vaultgemma_templates(BIASED, 5),
                [{"pattern": ["global", "local"]}],
                model={"head_dim": 24, "norm_eps": 0.01, "n_kv_heads": 4},
                embedding={"rope_theta": 50000.0, "scale": 8.0, "scale_rounding": "dtype"},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "head_dim": 24,
                "num_key_value_heads": 4,
                "query_pre_attn_scalar": 24,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "sliding_window": 5,
                "attn_logit_softcapping": None,
                "final_logit_softcapping": None,
                "tie_word_embeddings": False,
                "layer_types": ["full_attention", "sliding_attention"],
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    renames=(Rename(r"(.*)\.pre_feedforward_layernorm\.weight", (r"\1.post_attention_layernorm.weight",)),),
    features=(
        Feature("attention softcap", {f"{ATTENTION}.softcap": GONE}),
        Feature("logit softcap", {"head.logit_softcap": GONE}),
        Feature("unit offset of norm weights", {f"{NORM}.unit_offset": False}),
        Feature("norms before the sublayers alone", {f"{NORM}.position": "sandwich"}, shows="weights"),
        Feature("embedding scale", {"embedding.scale": GONE, "embedding.scale_rounding": GONE}),
        Feature("rounding of the embedding scale", {"embedding.scale_rounding": GONE}, shows="bfloat16"),
        Feature("attention scale", {f"{ATTENTION}.scale": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("tanh approximation of gelu", {f"{FFN}.activation": "gelu"}),
        Feature("tied head", {"head.tie_weights": False}, shows="gradients"),
        Feature("scores without a cap", {f"{ATTENTION}.softcap": 5.0}, case="uncapped"),
        Feature("logits without a cap", {"head.logit_softcap": 5.0}, case="uncapped"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="uncapped"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="uncapped"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="uncapped"),
        Feature("eps", {"model.norm_eps": GONE}, case="uncapped"),
    ),
)
