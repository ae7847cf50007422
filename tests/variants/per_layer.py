"""Tiny specs of layers with embeddings of their own."""

from __future__ import annotations

from tests.variants.building import PLAIN, block, spec

VARIANTS: dict[str, str] = {
    "per_layer": spec(
        "per_layer",
        block("window: 5", norm="position: sandwich", residual="layer_scalar: true", name="local")
        + block("n_kv_heads: 2", "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32}", name="own")
        + block("n_kv_heads: 2, kv: shared", ffn="type: none", name="taker"),
        "  - {pattern: [local, own]}\n  - loop: {times: 2, body: [{pattern: [local, own]}]}\n  - {pattern: [taker]}",
        embedding="  positional: rope\n  scale: 8.0\n  per_layer: {width: 8, activation: silu, norm: {eps: 0.01}}",
    ),
    "per_layer_integrated": spec(
        "per_layer_integrated",
        PLAIN,
        "  - template: block\n  - integrator: {type: ode_rk4, steps: 1, body: block}",
        embedding="  positional: alibi\n  norm: {}\n  per_layer: {width: 12}",
    ),
}
"""Specs by name."""
