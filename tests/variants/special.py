"""Tiny specs of attention of other kinds: differential."""

from __future__ import annotations

from tests.variants.building import block, spec
from tests.variants.core import MOE

VARIANTS: dict[str, str] = {
    "differential": spec(
        "differential",
        block("differential: {}, window: 5, n_kv_heads: 2", MOE, name="near")
        + block(
            "differential: {lambda_init: 0.5, norm_weight: true, norm_eps: 0.01}, rope: none, qkv_bias: true, "
            "softcap: 9.0, head_dim: 24",
            norm="type: layernorm, position: sandwich",
            name="global",
        )
        + block("n_kv_heads: 2, qk_norm: head", name="plain"),
        "  - {pattern: [near, global, plain, near]}",
    ),
    "differential_alibi": spec(
        "differential_alibi",
        block("differential: {lambda_std: 0.2}, out_bias: true, scale: 0.3", residual="type: parallel"),
        embedding="  positional: alibi",
    ),
}
"""Specs by name."""
