"""Families that differ in their norms, residual wiring, embedding and head: OLMo, Nemotron."""

from __future__ import annotations

from tests.families.harness import GONE, Case, Family, Feature
from tests.families.specs import LIBRARY, block, document

ATTENTION = "layer_templates.*.mixer.attention"
FFN = "layer_templates.*.ffn"
NORM = "layer_templates.*.norm"
RESIDUAL = "layer_templates.*.residual"
UNTIED = {"tie_weights": False}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}

OLMO_ROPE = {"rope": {"precision": "float32"}}
OLMO_NORM = {"type": "layernorm", "weight": False}
OLMO = Family(
    name="olmo",
    config="OlmoConfig",
    model="OlmoForCausalLM",
    cases={
        "base": Case(document("olmo_tiny", {"block": block(OLMO_ROPE, norm=OLMO_NORM)}, head=UNTIED), LIBRARY),
        "biased": Case(
            document(
                "olmo_biased",
                {"block": block({**OLMO_ROPE, "qkv_bias": True, "out_bias": True}, {"activation": "geglu"}, OLMO_NORM)},
                model={"n_kv_heads": 4},
            ),
            {
                **LIBRARY,
                "num_key_value_heads": 4,
                "attention_bias": True,
                "hidden_act": "gelu",
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("layer norm", {f"{NORM}.type": GONE}),
        Feature("norms without weights", {f"{NORM}.weight": GONE}, shows="weights"),
        Feature("rotation in float32", {f"{ATTENTION}.rope": GONE}, shows="bfloat16"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
    ),
)

NEMOTRON_FFN = {"type": "mlp", "activation": "relu2"}
NEMOTRON_NORM = {"type": "layernorm", "unit_offset": True}
NEMOTRON = Family(
    name="nemotron",
    config="NemotronConfig",
    model="NemotronForCausalLM",
    cases={
        "base": Case(
            document(
                "nemotron_tiny",
                {"block": block({"rope": {"partial": 0.5}}, NEMOTRON_FFN, NEMOTRON_NORM)},
                head=UNTIED,
            ),
            LIBRARY,
        ),
        "biased": Case(
            document(
                "nemotron_biased",
                {
                    "block": block(
                        {"rope": {"partial": 0.25}, "qkv_bias": True, "out_bias": True},
                        {"type": "mlp", "activation": "relu", "bias": True},
                        {**NEMOTRON_NORM, "eps": 0.01},
                    )
                },
                model={"n_kv_heads": 1, "head_dim": 32},
            ),
            {
                **LIBRARY,
                "num_key_value_heads": 1,
                "head_dim": 32,
                "hidden_act": "relu",
                "attention_bias": True,
                "mlp_bias": True,
                "norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {**ROPE, "partial_rotary_factor": 0.25},
            },
        ),
    },
    features=(
        Feature("norm weights as differences from 1", {f"{NORM}.unit_offset": GONE}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("partial rotation", {f"{ATTENTION}.rope": GONE}),
        Feature("activation", {f"{FFN}.activation": GONE}),
        Feature("eps", {f"{NORM}.eps": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
    ),
)
