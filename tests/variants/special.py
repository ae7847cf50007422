"""Tiny specs of attention of other kinds: differential, with a dynamic mask."""

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
    "dynamic_mask": spec(
        "dynamic_mask",
        block(
            "dynamic_mask: {keep: 5, bias: true}, n_kv_heads: 2, qk_norm: head",
            residual="skip_weight: channel",
            name="sparse",
        )
        + block(
            "dynamic_mask: {keep: 4}, window: 7, v_head_dim: 12, softcap: 9.0, output_gate: {}, rope: none",
            MOE,
            "type: layernorm, position: sandwich",
            name="local",
        )
        + block("attention_sinks: {}, n_kv_heads: 1", name="plain"),
        # Not first: values there depend on the token alone, and a choice between two of a kind is no choice
        "  - {pattern: [plain, sparse, local], repeat: 2}",
    ),
}
"""Specs by name."""
