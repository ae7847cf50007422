"""Families whose heads have a sink: Granite SWA."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Spec
from tests.families.specs import BIASED, GLOBAL, LIBRARY, LOCAL, SHALLOW, block, document


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
