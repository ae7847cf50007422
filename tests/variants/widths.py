"""Tiny specs of streams that change their width."""

from __future__ import annotations

from tests.variants.building import block, spec

WIDER = "shape_change: {d_out: 96}"
NARROWER = "shape_change: {d_out: 64, projection: mlp}"


def changing(change: str, **parts: str) -> str:
    """A template that changes the width."""
    return block(**parts) + f"    {change}\n"


VARIANTS: dict[str, str] = {
    "shape_changes": spec(
        "shape_changes",
        changing(WIDER, mixer="n_kv_heads: 2, head_dim: 16", name="widening")
        + block(
            "window: 5, mla: {kv_rank: 16, q_rank: 24, nope_dim: 16, rope_dim: 8, v_dim: 16, scales: latents}",
            "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32, shared_experts: 1, shared_gate: true}",
            "position: sandwich",
            "branch_weight: channel, skip_weight: affine, layer_scalar: true",
            name="wide",
        )
        + changing(
            NARROWER,
            mixer="window: 7, head_dim: 16",
            norm="type: layernorm, mixer: {position: post}",
            residual="layer_scalar: true",
            name="narrowing",
        ),
        "  - loop: {times: 2, body: [{pattern: [widening, wide, narrowing]}]}\n"
        "  - integrator: {type: ode_euler, steps: 2, body: [{pattern: [widening, narrowing]}]}\n"
        "  - {pattern: [widening, wide]}",
        embedding="  positional: rope\n  norm: {type: layernorm}",
        rest="head: {tie_weights: false}",
    ),
    "shape_kept": spec(
        "shape_kept",
        changing("shape_change: {d_out: 64, projection: mlp}", norm="position: post", name="projected") + block(),
        "  - {pattern: [projected, block], layers: 3}",
        embedding="  positional: learned",
    ),
    "shape_by_tokens": spec(
        "shape_by_tokens",
        changing("shape_change: {d_out: 48, projection: conv1d}", mixer="window: 5, head_dim: 16", name="narrowing")
        + changing(
            "shape_change: {d_out: 64, projection: conv1d, kernel: 2}",
            mixer="type: mamba, mamba: {d_state: 8, chunk_size: 8, expand: 1, head_dim: 16, n_groups: 1}",
            ffn="type: none",
            name="scanning",
        )
        + changing(
            "shape_change: {d_out: 48, projection: conv1d, kernel: 4}",
            mixer="type: none",
            norm="type: layernorm",
            name="feeding",
        )
        + changing(
            "memory: {type: neural_memory, params: {hidden: 16}, update_at_inference: true, chunk_size: 4}\n"
            "    shape_change: {d_out: 64, projection: conv1d}",
            mixer="head_dim: 16, rope: {theta: 100.0}",
            name="learning",
        ),
        "  - loop: {times: 2, body: [{pattern: [narrowing, scanning]}]}\n"
        "  - {pattern: [feeding, learning]}\n"
        "  - integrator: {type: ode_euler, steps: 2, body: [{pattern: [narrowing, scanning]}]}",
    ),
    "shape_back": spec(
        "shape_back",
        changing("shape_change: {d_out: 80}", mixer="differential: {}", name="up")
        + changing(
            "shape_change: {d_out: 64}",
            mixer="mixture: {experts: 4, top_k: 2}, head_dim: 16, n_kv_heads: 2",
            ffn="type: parallel, branches: {one: {type: gated_mlp, before: {}}, two: {type: mlp, activation: silu}}",
            name="down",
        ),
        "  - {pattern: [up, down], repeat: 2}",
        embedding="  positional: sinusoidal",
        rest="head: {transform: {norm: {}}}",
    ),
}
"""Specs by name."""
