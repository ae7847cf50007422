"""Tiny specs of norms, residual wiring, embedding and head in all their forms."""

from __future__ import annotations

from tests.variants.building import block, spec

VARIANTS: dict[str, str] = {
    "unweighted_norms": spec(
        "unweighted_norms",
        block(
            "qk_norm: {type: layernorm, weight: false}",
            norm="type: rmsnorm, weight: false, position: sandwich",
            name="rms",
        )
        + block(
            "qk_norm: {weight: false, over: full}",
            norm="type: layernorm, weight: false, eps: 0.1",
            residual="type: parallel",
            name="mean",
        ),
        "  - {pattern: [rms, mean], repeat: 2}",
        embedding="  norm: {type: layernorm, eps: 0.01}",
    ),
    "offset_layer_norm": spec(
        "offset_layer_norm",
        block("qk_norm: {type: layernorm, unit_offset: true, bias: true}", norm="type: layernorm, unit_offset: true"),
        embedding="  positional: learned\n  norm: {unit_offset: true}",
    ),
}
"""Specs by name."""
