"""RWKV-4: time mixing and channel mixing."""

from __future__ import annotations

from typing import Any

import torch

from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.specs import document

SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "context_length": 128,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "rescale_every": 0,
}
"""Sizes of the library's models."""


def rwkv(name: str, mixer: dict[str, Any], model: dict[str, Any] | None = None, eps: float = 1e-5) -> Spec:
    """A spec of RWKV's blocks; the norm behind them has the library's default eps, whatever the others have."""
    return document(
        name,
        {
            "block": {
                "mixer": {"type": "rwkv", "rwkv": mixer},
                "ffn": {"type": "channel_mix"},
                "norm": {"type": "layernorm"},
            }
        },
        [{"template": "block", "repeat": 2}],
        model={"norm_eps": eps, **(model or {})},
        embedding={"positional": "none", "norm": {"type": "layernorm"}},
        head={"tie_weights": False, "norm": {"type": "layernorm", "eps": 1e-5}},
    )


def flat(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (tensor.flatten(),)


def block(theirs: str, ours: str) -> Rename:
    """What the library calls something within a block, and what it is called here."""
    return Rename(rf"rwkv\.blocks\.(\d+)\.{theirs}", (rf"model.layers.\1.{ours}",))


PROJECTIONS = {"key": "k_proj", "value": "v_proj", "receptance": "r_proj", "output": "o_proj"}
NETWORK = {"key": "up_proj", "value": "down_proj", "receptance": "r_proj"}

RWKV = Family(
    name="rwkv",
    config="RwkvConfig",
    model="RwkvForCausalLM",
    cases={
        "base": Case(rwkv("rwkv_tiny", {}), SIZES),
        "wide": Case(
            rwkv("rwkv_wide", {"inner_size": 80}, {"intermediate_size": 256}, 0.01),
            {**SIZES, "attention_hidden_size": 80, "intermediate_size": None, "layer_norm_epsilon": 0.01},
        ),
    },
    renames=(
        Rename(r"rwkv\.embeddings\.weight", ("model.embed_tokens.weight",)),
        Rename(r"rwkv\.ln_out\.(.*)", (r"model.norm.\1",)),
        Rename(r"head\.weight", ("lm_head.weight",)),
        Rename(r"rwkv\.blocks\.0\.pre_ln\.(.*)", (r"model.embed_norm.\1",)),
        block(r"ln1\.(.*)", r"input_layernorm.\2"),
        block(r"ln2\.(.*)", r"post_attention_layernorm.\2"),
        *(block(rf"attention\.{theirs}\.(.*)", rf"time_mix.{ours}.\2") for theirs, ours in PROJECTIONS.items()),
        *(block(rf"feed_forward\.{theirs}\.(.*)", rf"channel_mix.{ours}.\2") for theirs, ours in NETWORK.items()),
        Rename(r"rwkv\.blocks\.(\d+)\.attention\.(time_.*)", (r"model.layers.\1.time_mix.\2",), flat),
        Rename(r"rwkv\.blocks\.(\d+)\.feed_forward\.(time_.*)", (r"model.layers.\1.channel_mix.\2",), flat),
    ),
    features=(
        Feature(
            "channels of keys and values", {"layer_templates.block.mixer.rwkv.inner_size": GONE}, "wide", "weights"
        ),
        Feature("norm of the embedding", {"embedding.norm": GONE}),
        Feature("norms with a mean", {"layer_templates.block.norm.type": "rmsnorm"}),
        Feature("eps of the norms", {"model.norm_eps": GONE}, case="wide"),
        Feature("eps of the last norm", {"head.norm": GONE}, case="wide"),
        Feature("no positions", {"embedding.positional": "sinusoidal"}),
        Feature("head of its own", {"head.tie_weights": True}),
    ),
    cached=False,
    pads=False,
)
