"""Families whose positions are sinusoids of the paper's wavelengths: CTRL."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import block, document

CTRL_SIZES = {
    "vocab_size": 128,
    "n_positions": 128,
    "n_embd": 64,
    "dff": 96,
    "n_layer": 4,
    "n_head": 4,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
}


def ctrl(name: str, head: dict[str, Any]) -> dict[str, Any]:
    """A spec of CTRL; its blocks add 1e-6 to their variances whatever the config says."""
    return document(
        name,
        {
            "block": block(
                {"qkv_bias": True, "out_bias": True},
                {"type": "mlp", "activation": "relu", "bias": True},
                {"type": "layernorm", "eps": 1.0e-6},
            )
        },
        model={"n_kv_heads": 4},
        embedding={"positional": "sinusoidal", "scale": 8.0},
        head={**head, "bias": True},
    )


CTRL = Family(
    name="ctrl",
    config="CTRLConfig",
    model="CTRLLMHeadModel",
    renames=(
        Rename(r"transformer\.w\.weight", ("model.embed_tokens.weight",)),
        Rename(r"transformer\.layernorm\.(\w+)", (r"model.norm.\1",)),
        Rename(
            r"transformer\.h\.(\d+)\.multi_head_attention\.W([qkv])\.(\w+)", (r"model.layers.\1.self_attn.\2_proj.\3",)
        ),
        Rename(r"transformer\.h\.(\d+)\.multi_head_attention\.dense\.(\w+)", (r"model.layers.\1.self_attn.o_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.ffn\.0\.(\w+)", (r"model.layers.\1.mlp.up_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.ffn\.2\.(\w+)", (r"model.layers.\1.mlp.down_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.layernorm1\.(\w+)", (r"model.layers.\1.input_layernorm.\2",)),
        Rename(r"transformer\.h\.(\d+)\.layernorm2\.(\w+)", (r"model.layers.\1.post_attention_layernorm.\2",)),
    ),
    cases={
        "base": Case(ctrl("ctrl_tiny", {}), CTRL_SIZES),
        "untied": Case(
            ctrl("ctrl_untied", {**UNTIED, "norm": {"type": "layernorm", "eps": 0.01}}),
            {**CTRL_SIZES, "layer_norm_epsilon": 0.01, "tie_word_embeddings": False},
        ),
    },
    features=(
        Feature("sinusoidal positions", {"embedding.positional": "none"}),
        Feature("wavelengths", {"embedding.wavelengths": "spread"}),
        Feature("embedding scale", {"embedding.scale": GONE}),
        Feature("layer norms", {f"{NORM}.type": GONE}, shows="weights"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("biases of the feed-forward", {f"{FFN}.bias": False}),
        Feature("activation", {f"{FFN}.activation": "gelu"}),
        Feature("bias of the head", {"head.bias": False}),
        Feature("eps of the last norm", {"head.norm": GONE}, case="untied"),
        Feature("eps of the blocks", {f"{NORM}.eps": 0.01}, case="untied"),
        Feature("a table of the head's own", {"head.tie_weights": GONE}, case="untied"),
    ),
)
