"""Families whose values decide their masks: Doge without experts."""

from __future__ import annotations

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import LIBRARY, SHALLOW, TWO, block, default_rope, document

BIASES = {"qkv_bias": True, "out_bias": True}
WEIGHTED = {"skip_weight": "channel"}
DOGE = Family(
    name="doge",
    config="DogeConfig",
    model="DogeForCausalLM",
    renames=(
        Rename(r"(.*\.self_attn)\.(A|dt_proj\.\w+)", (r"\1.dynamic_mask.\2",)),
        Rename(r"(.*)\.input_residual", (r"\1.attention_skip_gain.weight",)),
        Rename(r"(.*)\.post_attention_residual", (r"\1.feedforward_skip_gain.weight",)),
    ),
    cases={
        "base": Case(
            document(
                "doge_tiny",
                {"block": block({"dynamic_mask": {"keep": 16}, "qk_norm": "head"}, residual=WEIGHTED)},
                embedding={"rope_theta": 50000.0},
                head=UNTIED,
            ),
            {**LIBRARY, "keep_window_size": 16, "rope_parameters": default_rope(50000.0)},
        ),
        "biased": Case(
            document(
                "doge_biased",
                {
                    "block": block(
                        {"dynamic_mask": {"keep": 64, "bias": True}, "qk_norm": "head", "window": 10, **BIASES},
                        {"bias": True, "activation": "geglu"},
                        residual=WEIGHTED,
                    )
                },
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "keep_window_size": 64,
                "sliding_window": 10,
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
        Feature("dynamic mask", {f"{ATTENTION}.dynamic_mask": GONE}),
        Feature("number of keys", {f"{ATTENTION}.dynamic_mask.keep": 17}),
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("factors on the skip", {"layer_templates.*.residual.skip_weight": GONE}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("bias of the mask", {f"{ATTENTION}.dynamic_mask.bias": False}, case="biased"),
        Feature("window", {f"{ATTENTION}.window": GONE}, case="biased"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
    ),
)
