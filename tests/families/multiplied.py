"""Families with multipliers, or with their own order of dtypes: Granite, HyperCLOVA X, Helium."""

from __future__ import annotations

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import BIASED, QKV_BIASED, SHALLOW, TWO, block, default_rope, document

GRANITE = Family(
    name="granite",
    config="GraniteConfig",
    model="GraniteForCausalLM",
    cases={
        "base": Case(
            document(
                "granite_tiny",
                {"block": block({"scale": 0.015625}, residual={"scaling": 0.22})},
                TWO,
                embedding={"scale": 12.0},
                head={**UNTIED, "logit_divisor": 6.0},
            ),
            {
                **SHALLOW,
                "embedding_multiplier": 12.0,
                "attention_multiplier": 0.015625,
                "residual_multiplier": 0.22,
                "logits_scaling": 6.0,
            },
        ),
        "biased": Case(
            document(
                "granite_biased",
                {"block": block({**BIASED, "scale": 1.0}, {"bias": True, "activation": "geglu"})},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope_theta": 50000.0},
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "attention_bias": True,
                "mlp_bias": True,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    features=(
        Feature("embedding multiplier", {"embedding.scale": GONE}),
        Feature("attention multiplier", {f"{ATTENTION}.scale": GONE}),
        Feature("residual multiplier", {"layer_templates.*.residual.scaling": GONE}),
        Feature("logit divisor", {"head.logit_divisor": GONE}),
        Feature("scores as they are", {f"{ATTENTION}.scale": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
    ),
)

SANDWICH = {"position": "sandwich"}
HYPERCLOVAX = Family(
    name="hyperclovax",
    config="HyperCLOVAXConfig",
    model="HyperCLOVAXForCausalLM",
    cases={
        "base": Case(
            document(
                "hyperclovax_tiny",
                {"block": block({"scale": 0.015625}, norm=SANDWICH, residual={"scaling": 0.3})},
                TWO,
                model={"head_dim": 24},
                embedding={"scale": 10.0},
                head={**UNTIED, "logit_scale": 0.7},
            ),
            {
                **SHALLOW,
                "head_dim": 24,
                "embedding_multiplier": 10.0,
                "attention_multiplier": 0.015625,
                "residual_multiplier": 0.3,
                "logits_scaling": 0.7,
            },
        ),
        "biased": Case(
            document(
                "hyperclovax_biased",
                {"block": block(BIASED, {"bias": True, "activation": "geglu"}, SANDWICH)},
                TWO,
                model={"norm_eps": 0.01},
                embedding={"rope_theta": 50000.0},
            ),
            {
                **SHALLOW,
                "attention_bias": True,
                "mlp_bias": True,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    renames=(
        Rename(r"(.*)\.post_attention_layernorm\.weight", (r"\1.pre_feedforward_layernorm.weight",)),
        Rename(r"(.*)\.post_norm1\.weight", (r"\1.post_attention_layernorm.weight",)),
        Rename(r"(.*)\.post_norm2\.weight", (r"\1.post_feedforward_layernorm.weight",)),
    ),
    features=(
        Feature("embedding multiplier", {"embedding.scale": GONE}),
        Feature("attention multiplier", {f"{ATTENTION}.scale": GONE}),
        Feature("residual multiplier", {"layer_templates.*.residual.scaling": GONE}),
        Feature("logit multiplier", {"head.logit_scale": GONE}),
        Feature("norms around sublayers", {f"{NORM}.position": "pre"}),
        Feature("norms on the outputs alone", {f"{NORM}.position": "output"}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
    ),
)

HYPERCLOVAX_PRE = Family(
    name="hyperclovax_pre",
    config="HyperCLOVAXConfig",
    model="HyperCLOVAXForCausalLM",
    cases={
        "base": Case(
            document("hyperclovax_pre", {"block": block(residual={"scaling": 0.3})}, TWO, head=UNTIED),
            {**SHALLOW, "use_post_norm": False, "residual_multiplier": 0.3},
        ),
    },
    features=(
        Feature("norms before the sublayers alone", {f"{NORM}.position": "sandwich"}, shows="weights"),
        Feature("residual multiplier", {"layer_templates.*.residual.scaling": GONE}),
    ),
)

HELIUM_NORM = {"float32_weight": True}
HELIUM = Family(
    name="helium",
    config="HeliumConfig",
    model="HeliumForCausalLM",
    cases={
        "base": Case(
            document(
                "helium_tiny",
                {"block": block(norm=HELIUM_NORM)},
                TWO,
                model={"norm_eps": 1.0e-8},
                embedding={"rope": {"interleaved": True, "theta": 100000.0}},
                head=UNTIED,
            ),
            {**SHALLOW, "head_dim": 16, "rope_parameters": default_rope(100000.0)},
        ),
        "biased": Case(
            document(
                "helium_biased",
                {"block": block(QKV_BIASED, {"bias": True, "activation": "geglu"}, HELIUM_NORM)},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"interleaved": True}},
            ),
            {
                **SHALLOW,
                "head_dim": 16,
                "num_key_value_heads": 4,
                "attention_bias": True,
                "mlp_bias": True,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(10000.0),
            },
        ),
    },
    features=(
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("rope theta", {"embedding.rope.theta": GONE}),
        Feature("norm weights in float32", {f"{NORM}.float32_weight": False}, shows="bfloat16"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("no output bias", {f"{ATTENTION}.out_bias": True}, case="biased", shows="weights"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
    ),
)
