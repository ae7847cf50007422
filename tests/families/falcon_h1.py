"""Families of attention and a state space side by side: Falcon-H1."""

from __future__ import annotations

from typing import Any

from tests.families.dense import FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.specs import LIBRARY, default_rope, document

BRANCHES = "layer_templates.block.mixer.branched.branches"
MAMBA = f"{BRANCHES}.ssm.mamba"
ATTENTION = f"{BRANCHES}.attention.attention"


def side_by_side(
    mamba: dict[str, Any],
    attention: dict[str, Any],
    ffn: dict[str, Any],
    factors: tuple[dict[str, Any], dict[str, Any]] = ({}, {}),
) -> Spec:
    """A layer template with both, added; `factors` stand around them."""
    branches = {
        "ssm": {"type": "mamba", "mamba": mamba, **factors[0]},
        "attention": {"type": "attention", "attention": attention, **factors[1]},
    }
    return {
        "mixer": {"type": "branched", "branched": {"branches": branches, "selector": {"type": "sum"}}},
        "ffn": {"type": "gated_mlp", **ffn},
    }


SIZES: dict[str, Any] = {
    **LIBRARY,
    "num_hidden_layers": 2,
    "mamba_chunk_size": 8,
    "mamba_d_conv": 4,
    "mamba_d_head": 16,
    "mamba_d_ssm": 128,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_n_heads": 8,
    "rope_parameters": default_rope(10000.0),
}
MULTIPLIERS = {"gate": 1.2, "input": 0.85, "b": 0.7, "c": 1.4, "dt": 0.6}
TWO = [{"template": "block", "repeat": 2}]

FALCON_H1 = Family(
    name="falcon_h1",
    config="FalconH1Config",
    model="FalconH1ForCausalLM",
    cases={
        "base": Case(
            document(
                "falcon_h1_tiny",
                {
                    "block": side_by_side(
                        {"d_state": 16, "head_dim": 16, "chunk_size": 8, "norm": "none", "multipliers": MULTIPLIERS},
                        {"key_scale": 0.5},
                        {"gate_multiplier": 0.8, "down_multiplier": 0.6},
                        ({"input_scale": 1.3, "output_scale": 0.7}, {"input_scale": 0.9, "output_scale": 1.1}),
                    )
                },
                TWO,
                model={"norm_eps": 1e-5},
                embedding={"scale": 2.0},
                head={**UNTIED, "logit_scale": 0.5},
            ),
            {
                **SIZES,
                "embedding_multiplier": 2.0,
                "lm_head_multiplier": 0.5,
                "key_multiplier": 0.5,
                "mlp_multipliers": [0.8, 0.6],
                "ssm_multipliers": list(MULTIPLIERS.values()),
                "ssm_in_multiplier": 1.3,
                "ssm_out_multiplier": 0.7,
                "attention_in_multiplier": 0.9,
                "attention_out_multiplier": 1.1,
            },
        ),
        "normed": Case(
            document(
                "falcon_h1_normed",
                {
                    "block": side_by_side(
                        {
                            "d_state": 24,
                            "d_conv": 3,
                            "expand": 1.5,
                            "head_dim": 32,
                            "chunk_size": 4,
                            "norm": "norm_first",
                            "conv_bias": False,
                        },
                        {"qkv_bias": True, "out_bias": True},
                        {"bias": True},
                    )
                },
                TWO,
                model={"norm_eps": 0.01},
                embedding={"rope_theta": 5000.0},
            ),
            {
                **SIZES,
                "mamba_chunk_size": 4,
                "mamba_conv_bias": False,
                "mamba_d_conv": 3,
                "mamba_d_head": 32,
                "mamba_d_ssm": 96,
                "mamba_d_state": 24,
                "mamba_n_heads": 3,
                "mamba_rms_norm": True,
                "attention_bias": True,
                "mlp_bias": True,
                "rms_norm_eps": 0.01,
                "rope_parameters": default_rope(5000.0),
                "tie_word_embeddings": True,
            },
        ),
    },
    renames=(
        Rename(r"model\.final_layernorm\.weight", ("model.norm.weight",)),
        Rename(r"(.*)\.pre_ff_layernorm\.weight", (r"\1.post_attention_layernorm.weight",)),
        Rename(r"(.*)\.mamba\.(.*)", (r"\1.ssm_mamba.\2",)),
        Rename(r"(.*)\.self_attn\.(.*)", (r"\1.attention_self_attn.\2",)),
        Rename(r"(.*)\.feed_forward\.(.*)", (r"\1.mlp.\2",)),
    ),
    features=(
        Feature("width of a head", {f"{MAMBA}.head_dim": GONE}, shows="weights"),
        Feature("size of the state", {f"{MAMBA}.d_state": GONE}, shows="weights"),
        Feature("taps of the convolution", {f"{MAMBA}.d_conv": GONE}, case="normed", shows="weights"),
        Feature("inner width", {f"{MAMBA}.expand": GONE}, case="normed", shows="weights"),
        Feature("no bias of the convolution", {f"{MAMBA}.conv_bias": GONE}, case="normed", shows="weights"),
        Feature("a gate without a norm", {f"{MAMBA}.norm": GONE}, shows="weights"),
        Feature("norm before the gate", {f"{MAMBA}.norm": "gate_first"}, case="normed"),
        Feature("mixers that are added", {"layer_templates.block.mixer.branched.selector": GONE}, shows="weights"),
        Feature("factor on the keys", {f"{ATTENTION}.key_scale": GONE}),
        *(
            Feature(f"factor on {name} in the projection", {f"{MAMBA}.multipliers.{name}": GONE})
            for name in MULTIPLIERS
        ),
        Feature("factors in the projection", {f"{MAMBA}.multipliers": GONE}),
        *(
            Feature(f"factor on the {side} of {branch}", {f"{BRANCHES}.{branch}.{side}_scale": GONE})
            for branch in ("ssm", "attention")
            for side in ("input", "output")
        ),
        Feature("factor in the gate", {f"{FFN}.gate_multiplier": GONE}),
        Feature("factor on the feed-forward", {f"{FFN}.down_multiplier": GONE}),
        Feature("factor on the embedding", {"embedding.scale": GONE}),
        Feature("factor on the logits", {"head.logit_scale": GONE}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="normed"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="normed"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="normed"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="normed"),
        Feature("eps", {"model.norm_eps": GONE}, case="normed"),
    ),
)
