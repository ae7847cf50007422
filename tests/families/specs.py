"""Parts of specs that the families share: tiny sizes, blocks, the whole document."""

from __future__ import annotations

from typing import Any

from tests.families.harness import Spec

LIBRARY: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Sizes of the library's models, under the names that most of its configs use."""

SHALLOW: dict[str, Any] = {**LIBRARY, "num_hidden_layers": 2}
TWO = [{"template": "block", "repeat": 2}]
"""The schedule of a shallow model with one template."""

BIASED = {"qkv_bias": True, "out_bias": True}
QKV_BIASED = {"qkv_bias": True, "out_bias": False}

LOCAL = "layer_templates.local.mixer.attention"
GLOBAL = "layer_templates.global.mixer.attention"


def default_rope(theta: float, **rest: Any) -> dict[str, Any]:
    """The library's parameters of a rope without scaling."""
    return {"rope_type": "default", "rope_theta": theta, **rest}


def block(
    attention: dict[str, Any] | None = None,
    ffn: dict[str, Any] | None = None,
    norm: dict[str, Any] | None = None,
    residual: dict[str, Any] | None = None,
) -> Spec:
    """One layer template."""
    return {
        "mixer": {"type": "attention", "attention": attention or {}},
        "ffn": {"type": "gated_mlp", **(ffn or {})},
        "norm": norm or {},
        "residual": residual or {},
    }


def document(
    name: str,
    templates: dict[str, Spec],
    schedule: list[Spec] | None = None,
    *,
    model: dict[str, Any] | None = None,
    embedding: dict[str, Any] | None = None,
    head: dict[str, Any] | None = None,
) -> Spec:
    """A spec with the sizes of `LIBRARY`; four layers of the only template if there is no schedule."""
    sizes = {"d_model": 64, "vocab_size": 128, "max_seq_len": 128, "n_heads": 4, "n_kv_heads": 2}
    return {
        "schema_version": 1,
        "model": {"name": name, **sizes, "intermediate_size": 96, "dtype": "float32", **(model or {})},
        "embedding": {"positional": "rope", **(embedding or {})},
        "layer_templates": templates,
        "layer_schedule": schedule or [{"template": next(iter(templates)), "repeat": 4}],
        "head": head or {},
    }
