"""Tiny specs of how models start and what a trainer is told."""

from __future__ import annotations

from tests.variants.building import block, spec

MOE = "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32, shared_experts: 1, shared_gate: true}"

VARIANTS: dict[str, str] = {
    "depth_scaled": spec(
        "depth_scaled",
        block("qk_norm: {over: heads}, qkv_bias: true, out_bias: true", "type: mlp, bias: true", name="dense")
        + block("mla: {kv_rank: 16, q_rank: 24, nope_dim: 8, rope_dim: 8, v_dim: 16}", MOE, name="routed"),
        "  - {pattern: [dense, routed], layers: 3}",
        rest="training_hints: {init: depth_scaled_0.05, optimizer: muon, muon: {stabilize_iters: 2, momentum: 0.9}}",
    ),
    "width_scaled": spec(
        "width_scaled",
        block("attention_sinks: {}", MOE, "type: gated_rmsnorm, rank: 8", name="routed")
        + block("differential: {}", "type: gated_mlp, activation: silu, bias: true", name="dense"),
        "  - {pattern: [dense, routed], layers: 3}",
        embedding="  positional: rope\n  width: 48",
        rest="head: {tie_weights: false, transform: {activation: gelu}}\n"
        "training_hints: {init: mup_0.05, mup_base_width: 16, router_lr_multiplier: 0.5}",
    ),
    "layered_safe": spec(
        "layered_safe",
        block(
            "qk_norm: {type: layernorm, bias: true}, v_norm: {}, out_norm: {unit_offset: true}",
            "type: gated_mlp, inner_norm: {type: layernorm, bias: false}",
            "type: layernorm, position: sandwich, ffn: {unit_offset: true}, mixer: {type: gated_rmsnorm, rank: 8}",
            name="dense",
        )
        + block(
            "mla: {kv_rank: 16, q_rank: 24, nope_dim: 8, rope_dim: 8, v_dim: 16}, "
            "indexer: {n_heads: 2, head_dim: 16, top_k: 64}",
            f"{MOE}",
            "type: grouped_rmsnorm, groups: 4, ffn: {type: rmsnorm}",
            name="routed",
        ),
        "  - {pattern: [dense, routed], layers: 3}",
        embedding="  norm: {type: layernorm}",
        rest="compatibility: {dtype_policy: layered_safe}\nhead: {transform: {norm: {}}}",
    ),
}
"""Specs by name."""
