"""Tiny specs of streams of layers beside each other."""

from __future__ import annotations

from tests.variants.building import PLAIN, block, spec
from tests.variants.widths import changing

VARIANTS: dict[str, str] = {
    "streams_joined": spec(
        "streams_joined",
        PLAIN
        + block("window: 5, n_kv_heads: 2", "type: moe, moe: {experts: 4, top_k: 2}", name="local")
        + block("type: retnet, retnet: {chunk_size: 8}", "type: none", name="far"),
        "  - {template: block, share: both}\n"
        "  - parallel:\n"
        "      - {stream: near, body: [{template: local, repeat: 2}]}\n"
        "      - {stream: hidden, body: [{template: far}, {template: block, share: both}]}\n"
        "      - {stream: short, body: [{template: block, depth_gating: {capacity: 0.5}}]}\n"
        "    merge: {type: gated}\n"
        "  - parallel:\n"
        "      - {stream: near, body: [{template: local}]}\n"
        "      - {stream: far, body: [{template: far, repeat: 2}]}\n"
        "    merge: {type: add}\n"
        "  - parallel: [{stream: near, body: [{template: block}]}, {stream: far, body: [{template: local}]}]",
    ),
    "streams_crossed": spec(
        "streams_crossed",
        PLAIN + block("window: 5, head_dim: 24, rope: {theta: 100.0}", norm="type: layernorm", name="cross_attention"),
        "  - parallel:\n"
        "      - {stream: one, body: [{template: block, repeat: 2}]}\n"
        "      - {stream: two, body: [{template: cross_attention}]}\n"
        "    merge: {type: cross_attn, from: two, to: one}\n"
        "  - integrator: {type: ode_euler, steps: 2, body: cross_attention}\n"
        "  - parallel:\n"
        "      - {stream: one, body: [{template: block}]}\n"
        "      - {stream: two, body: [{template: cross_attention}]}\n"
        "    merge: {type: cross_attn}",
        model="  n_kv_heads: 2",
    ),
    "streams_side_by_side": spec(
        "streams_side_by_side",
        block("head_dim: 16")
        + changing("shape_change: {d_out: 32}", mixer="head_dim: 16", name="narrowing")
        + changing("shape_change: {d_out: 64, projection: mlp}", mixer="head_dim: 16", name="back"),
        "  - parallel:\n"
        "      - {stream: wide, body: [{template: block}]}\n"
        "      - {stream: narrow, body: [{template: narrowing}]}\n"
        "    merge: {projection: false}\n"
        "  - parallel:\n"
        "      - {stream: wide, body: [{template: block}]}\n"
        "      - {stream: narrow, body: [{template: narrowing}, {pattern: [narrowing, block]}]}\n"
        "    merge: {type: concat, projection: true}\n"
        "  - template: back\n"
        "  - parallel: [{stream: one, body: [{template: block}]}, {stream: two, body: [{template: block}]}]\n"
        "    merge: {projection: false}",
        embedding="  positional: alibi",
        rest="head: {tie_weights: false, norm: none}",
    ),
}
"""Specs by name."""
