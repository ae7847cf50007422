"""Families whose norms stand on the sublayers' outputs, with windows and ropes by layer: EXAONE 4, OLMo 3."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, OLMO2_ATTENTION, OLMO2_NORM, UNTIED, YARN
from tests.families.harness import GONE, Case, Family, Feature, Spec
from tests.families.specs import BIASED, GLOBAL, LIBRARY, LOCAL, SHALLOW, TWO, block, default_rope, document

OUTPUT = {"position": "output"}
THREE_TYPES = ["sliding_attention", "sliding_attention", "full_attention"]

EXAONE4 = Family(
    name="exaone4",
    config="Exaone4Config",
    model="Exaone4ForCausalLM",
    cases={
        "base": Case(
            document(
                "exaone4_tiny",
                {
                    "local": block({"qk_norm": "head", "window": 8}, norm=OUTPUT),
                    "global": block({"qk_norm": "head", "rope": "none"}, norm=OUTPUT),
                },
                [{"pattern": ["local", "local", "global"]}],
                model={"norm_eps": 1.0e-5},
                embedding={"rope_theta": 1000000.0},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 3,
                "sliding_window": 8,
                "layer_types": THREE_TYPES,
                "rope_parameters": default_rope(1000000.0),
            },
        ),
        # without windows every layer rotates
        "full": Case(
            document(
                "exaone4_full",
                {"block": block({"qk_norm": "head"}, {"activation": "geglu"}, OUTPUT)},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"theta": 50000.0, "scaling": {"type": "linear", "factor": 2.0}}},
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "sliding_window": None,
                "layer_types": ["full_attention", "full_attention"],
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 2.0},
            },
        ),
    },
    features=(
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("norms on the outputs", {f"{NORM}.position": "pre"}),
        Feature("global layers without rope", {f"{GLOBAL}.rope": GONE}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("rope in full layers", {f"{ATTENTION}.rope": "none"}, case="full"),
        Feature("linear rope scaling", {"embedding.rope.scaling": GONE}, case="full"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="full"),
        Feature("eps", {"model.norm_eps": GONE}, case="full"),
        Feature("tied head", {"head": UNTIED}, case="full", shows="gradients"),
        Feature("theta", {"embedding.rope.theta": GONE}, case="full"),
    ),
)


def olmo3_templates(attention: dict[str, Any], window: int, local: dict[str, Any], wide: dict[str, Any]) -> Spec:
    """A local and a global layer, each with its rope, both rotating in float32."""
    attention = {**OLMO2_ATTENTION, **attention}
    rope = OLMO2_ATTENTION["rope"]
    return {
        "local": block({**attention, "window": window, "rope": {**rope, **local}}, norm=OLMO2_NORM),
        "global": block({**attention, "rope": {**rope, **wide}}, norm=OLMO2_NORM),
    }


OLMO3 = Family(
    name="olmo3",
    config="Olmo3Config",
    model="Olmo3ForCausalLM",
    cases={
        "base": Case(
            document(
                "olmo3_tiny",
                olmo3_templates({}, 8, {}, {"scaling": {"type": "yarn", **YARN}}),
                [{"pattern": ["local", "local", "global"]}],
                model={"norm_eps": 1.0e-5},
                embedding={"rope_theta": 500000.0},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 3,
                "sliding_window": 8,
                "layer_types": THREE_TYPES,
                "rope_parameters": {
                    "sliding_attention": default_rope(500000.0),
                    "full_attention": {"rope_type": "yarn", "rope_theta": 500000.0, **YARN},
                },
            },
        ),
        "biased": Case(
            document(
                "olmo3_biased",
                olmo3_templates(BIASED, 5, {"theta": 500.0}, {}),
                [{"pattern": ["global", "local"]}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope_theta": 50000.0},
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "sliding_window": 5,
                "layer_types": ["full_attention", "sliding_attention"],
                "tie_word_embeddings": True,
                "rope_parameters": {
                    "sliding_attention": default_rope(500.0),
                    "full_attention": default_rope(50000.0),
                },
            },
        ),
    },
    features=(
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("query and key norm in float32", {f"{ATTENTION}.qk_norm": {"over": "full"}}, shows="bfloat16"),
        Feature("norms on the outputs", {f"{NORM}.position": "pre"}),
        Feature("norm weights in float32", {f"{NORM}.float32_weight": False}, shows="bfloat16"),
        Feature("rotation in float32", {f"{ATTENTION}.rope.precision": GONE}, shows="bfloat16"),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("yarn in the global layers", {f"{GLOBAL}.rope.scaling": GONE}),
        Feature("no scaling in the local layers", {f"{LOCAL}.rope.scaling": {"type": "yarn", **YARN}}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("theta of the local layers", {f"{LOCAL}.rope.theta": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
    ),
)
