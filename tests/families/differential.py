"""Families with differential attention: DiffLlama."""

from __future__ import annotations

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature
from tests.families.specs import LIBRARY, block, document

DIFFLLAMA = Family(
    name="diffllama",
    config="DiffLlamaConfig",
    model="DiffLlamaForCausalLM",
    cases={
        "base": Case(
            document(
                "diffllama_tiny",
                {"block": block({"differential": {}})},
                model={"head_dim": 16, "norm_eps": 1.0e-5},
                embedding={"rope_theta": 50000.0},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "head_dim": 16,
                "rms_norm_eps": 1.0e-5,
                "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
            },
        ),
        "biased": Case(
            document(
                "diffllama_biased",
                {
                    "block": block(
                        {"differential": {"lambda_std": 0.3}, "qkv_bias": True, "out_bias": True, "head_dim": 24},
                        {"activation": "geglu"},
                    )
                },
                [{"template": "block", "repeat": 2}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 2,
                "num_key_value_heads": 4,
                "head_dim": 24,
                "attention_bias": True,
                "hidden_act": "gelu",
                "lambda_std_dev": 0.3,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    },
    features=(
        Feature("differential attention", {f"{ATTENTION}.differential": GONE}, shows="weights"),
        Feature("second half of the heads", {f"{ATTENTION}.differential": GONE}),
        Feature("weight by depth", {f"{ATTENTION}.differential.lambda_init": 0.8}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("grouped heads", {"model.n_kv_heads": GONE}, shows="weights"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("eps of the heads' norm", {f"{ATTENTION}.differential.norm_eps": 1.0e-5}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
    ),
)
