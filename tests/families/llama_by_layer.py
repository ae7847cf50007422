"""Families a step from Llama whose layers differ by window or rope: Ministral, CWM, SmolLM3."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, LLAMA3, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Spec
from tests.families.specs import BIASED, GLOBAL, LIBRARY, LOCAL, SHALLOW, TWO, block, default_rope, document

MINISTRAL = Family(
    name="ministral",
    config="MinistralConfig",
    model="MinistralForCausalLM",
    cases={
        "base": Case(
            document(
                "ministral_tiny",
                {"local": block({"window": 8}), "global": block()},
                [{"pattern": ["local", "global"], "layers": 3}],
                model={"head_dim": 24},
                embedding={"rope_theta": 1000000.0},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 3,
                "head_dim": 24,
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                "rope_parameters": default_rope(1000000.0),
            },
        ),
        "full": Case(
            document(
                "ministral_full",
                {"block": block(ffn={"activation": "geglu"})},
                TWO,
                model={"n_kv_heads": 1, "norm_eps": 0.01},
            ),
            {
                **SHALLOW,
                "head_dim": 16,
                "num_key_value_heads": 1,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "sliding_window": 8,
                "layer_types": ["full_attention", "full_attention"],
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("no window", {f"{ATTENTION}.window": 8}, case="full"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="full"),
        Feature("eps", {"model.norm_eps": GONE}, case="full"),
        Feature("tied head", {"head": {"tie_weights": False}}, case="full", shows="gradients"),
    ),
)

CWM = Family(
    name="cwm",
    config="CwmConfig",
    model="CwmForCausalLM",
    cases={
        "base": Case(
            document(
                "cwm_tiny",
                {"global": block(), "local": block({"window": 8})},
                [{"pattern": ["global", "local", "local"], "layers": 3}],
                model={"head_dim": 24, "norm_eps": 1.0e-5},
                embedding={"rope_theta": 1000000.0, "rope_scaling": {"type": "llama3", **LLAMA3}},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 3,
                "head_dim": 24,
                "sliding_window": 8,
                "rope_parameters": {"rope_type": "llama3", "rope_theta": 1000000.0, **LLAMA3},
            },
        ),
        "reordered": Case(
            document(
                "cwm_reordered",
                {
                    "global": block(ffn={"activation": "geglu"}),
                    "local": block({"window": 5}, {"activation": "geglu"}),
                },
                [{"pattern": ["local", "global"], "layers": 2}],
                model={"head_dim": 16, "n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope_theta": 50000.0},
            ),
            {
                **SHALLOW,
                "head_dim": 16,
                "num_key_value_heads": 4,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "sliding_window": 5,
                "layer_types": ["sliding_attention", "full_attention"],
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    features=(
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("llama3 rope scaling", {"embedding.rope_scaling": GONE}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature(
            "order of local and global layers",
            {"layer_schedule": [{"pattern": ["global", "local"], "layers": 2}]},
            case="reordered",
        ),
        Feature("activation", {f"{FFN}.activation": GONE}, case="reordered"),
        Feature("eps", {"model.norm_eps": GONE}, case="reordered"),
        Feature("tied head", {"head": {"tie_weights": False}}, case="reordered", shows="gradients"),
    ),
)


def smollm3_templates(attention: dict[str, Any], ffn: dict[str, Any], still: dict[str, Any]) -> dict[str, Spec]:
    """A layer that rotates and one that does not."""
    return {"turning": block(attention, ffn), "still": block({**attention, **still, "rope": "none"}, ffn)}


SMOLLM3 = Family(
    name="smollm3",
    config="SmolLM3Config",
    model="SmolLM3ForCausalLM",
    cases={
        "base": Case(
            document(
                "smollm3_tiny",
                smollm3_templates({}, {}, {}),
                [{"pattern": ["turning", "still"], "layers": 3}],
                embedding={"rope_theta": 2000000.0},
            ),
            {**LIBRARY, "num_hidden_layers": 3, "no_rope_layer_interval": 2},
        ),
        "windowed": Case(
            document(
                "smollm3_windowed",
                smollm3_templates(BIASED, {"bias": True}, {"window": 8}),
                [{"pattern": ["still", "turning"], "layers": 2}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"theta": 50000.0, "scaling": {"type": "linear", "factor": 2.0}}},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "no_rope_layers": [0, 1],
                "use_sliding_window": True,
                "sliding_window": 8,
                "attention_bias": True,
                "mlp_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": False,
                "rope_parameters": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 2.0},
            },
        ),
    },
    features=(
        Feature("layers without rope", {"layer_templates.still.mixer.attention.rope": GONE}),
        Feature("layers with rope", {"layer_templates.turning.mixer.attention.rope": "none"}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("tied head", {"head": {"tie_weights": False}}, shows="gradients"),
        Feature("window", {"layer_templates.still.mixer.attention.window": GONE}, case="windowed"),
        Feature("width of the window", {"layer_templates.still.mixer.attention.window": 9}, case="windowed"),
        Feature("global layers", {"layer_templates.turning.mixer.attention.window": 8}, case="windowed"),
        Feature("linear rope scaling", {"embedding.rope.scaling": GONE}, case="windowed"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="windowed"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="windowed"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="windowed"),
        Feature("eps", {"model.norm_eps": GONE}, case="windowed"),
        Feature("theta", {"embedding.rope.theta": GONE}, case="windowed"),
    ),
)
