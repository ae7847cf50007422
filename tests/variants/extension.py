"""A tiny spec with a mixer from outside the compiler."""

from __future__ import annotations

from tests.variants.building import PLAIN, spec

VARIANTS: dict[str, str] = {
    "extension": spec(
        "extended",
        "  pool:\n    mixer: {type: pooling, pooling: {heads: 4, sharpness: 2, gate: true}}\n"
        + "    ffn: {type: gated_mlp}\n"
        + PLAIN.replace("attention}", "attention, attention: {window: 6}}"),
        "  - {pattern: [pool, block], layers: 3, override_at: [{layers: 2, pooling: {heads: 8}}]}",
        rest="extensions: [./tests/extensions/pooling]",
    ),
}
"""Specs by name."""
