"""Tiny specs of positions that differ from layer to layer, beside everything that also differs by layer."""

from __future__ import annotations

from tests.variants.building import block, spec
from tests.variants.core import LLAMA3, YARN

VARIANTS: dict[str, str] = {
    # three tables of one layer type, one of another, and a layer without
    "ropes_by_layer": spec(
        "ropes_by_layer",
        block(f"rope: {{theta: 500000.0, scaling: {YARN}}}", name="far")
        + block(f"n_kv_heads: 1, rope: {{theta: 900.0, partial: 0.5, scaling: {LLAMA3}}}", name="half")
        + block("rope: {partial: 0.25, scaling: {type: proportional}, precision: float32}", name="still")
        + block("window: 5, rope: {theta: 300.0, interleaved: true, negated: true}", name="near")
        + block("rope: none, n_kv_heads: 2", name="blind"),
        "  - {pattern: [far, half, still, near, blind]}",
    ),
    "ropes_within_windows": spec(
        "ropes_within_windows",
        block("window: 4, rope: {theta: 100.0}", name="short")
        + block("window: 9, rope: {scaling: {type: linear, factor: 3.0}}", name="long")
        + block("window: 3, window_mode: dilated, window_dilation: 2, rope: none", name="sparse"),
        "  - {pattern: [short, long, sparse]}",
    ),
}
