"""Tiny specs whose layers some tokens go past (Mixture-of-Depths)."""

from __future__ import annotations

from tests.variants.building import block, spec

MLA = "mla: {kv_rank: 16, nope_dim: 16, rope_dim: 8, v_dim: 16}"
HASHED = "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32, routing: {type: hash, hash_salt: 3}}"
BALANCED = "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32, load_balance_coef: 0.0, bias_correction: {}}"

VARIANTS: dict[str, str] = {
    "depth": spec(
        "depth",
        block("n_kv_heads: 2, attention_sinks: {}, temperature: {scale: 0.3, length: 4}", name="plain")
        + block(MLA, HASHED, "position: sandwich", name="latent"),
        "  - {template: plain}\n  - {template: plain, repeat: 2, depth_gating: {capacity: '${0.25 * layer.index}'}}\n"
        "  - {template: latent, depth_gating: {router: learned_gate}}",
    ),
    "depth_alibi": spec(
        "depth_alibi",
        block("n_kv_heads: 2, dynamic_mask: {keep: 5}", BALANCED, "position: post", name="gated")
        + "    depth_gating: {aux_coef: 0.1}\n"
        + block("differential: {}, softcap: 9.0", residual="type: parallel, layer_scalar: true", name="other"),
        "  - {loop: {times: 2, body: [{template: gated}, {template: other, depth_gating: {capacity: 0.75}}]}}",
        embedding="  positional: none",
    ),
}
"""Specs by name."""
