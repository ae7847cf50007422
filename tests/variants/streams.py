"""Tiny specs of several streams: hyper-connections."""

from __future__ import annotations

from tests.variants.building import block, spec
from tests.variants.widths import changing


def hyper(keys: str, more: str = "") -> str:
    """The `residual` of a template with hyper-connections."""
    return f"type: hyper_connection, hyper: {{expand: 3{keys}}}{more}"


BIRKHOFF = hyper(", sinkhorn_iters: 4, collapse: gated, eps: 1e-5")

VARIANTS: dict[str, str] = {
    "hyper_constrained": spec(
        "hyper_constrained",
        block("window: 5, attention_sinks: {}", "type: moe, moe: {experts: 4, top_k: 2}", residual=BIRKHOFF)
        + block(
            "type: mamba, mamba: {expand: 1, head_dim: 16, n_groups: 1, d_state: 8, chunk_size: 8}",
            norm="position: sandwich",
            residual=hyper(", sinkhorn_iters: 0, collapse: gated, eps: 1e-5", ", scaling: 0.5, layer_scalar: true"),
            name="scanning",
        ),
        "  - {pattern: [block, scanning], layers: 3}",
        rest="head: {tie_weights: false}\ntraining_hints: {dropout: 0.1}",
    ),
    "hyper_free": spec(
        "hyper_free",
        changing(
            "shape_change: {d_out: 96}",
            mixer="head_dim: 16",
            norm="position: post",
            residual=hyper(", mixing: unconstrained", ", skip_scaling: 0.9, branch_weight: channel"),
            name="wider",
        )
        + changing(
            "shape_change: {d_out: 64, projection: mlp}",
            mixer="head_dim: 16",
            norm="type: layernorm",
            residual=hyper(", mixing: learned_lowrank, rank: 2", ", skip_weight: affine"),
            name="narrower",
        ),
        "  - integrator: {type: ode_euler, steps: 2, output: hidden, body: [{pattern: [wider, narrower]}]}\n"
        "  - loop: {times: 2, body: [{pattern: [wider, narrower]}]}",
        embedding="  positional: learned\n  norm: {}",
    ),
    "hyper_low_rank": spec(
        "hyper_low_rank",
        "  mixing:\n    mixer: {type: attention, attention: {n_kv_heads: 2}}\n    ffn: {type: none}\n"
        f"    residual: {{{hyper(', mixing: learned_lowrank')}}}\n"
        "  feeding:\n    mixer: {type: none}\n    ffn: {type: gated_mlp}\n"
        f"    residual: {{{hyper(', mixing: unconstrained')}}}\n",
        "  - {pattern: [mixing, feeding], repeat: 2}",
        embedding="  positional: alibi",
        rest="training_hints: {init: depth_scaled_0.02}",
    ),
}
"""Specs by name."""
