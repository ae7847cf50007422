"""Tiny specs of what layers see: chunks, windows with gaps, and both beside the others."""

from __future__ import annotations

from tests.variants.building import block, spec
from tests.variants.core import MOE

VARIANTS: dict[str, str] = {
    "chunked": spec(
        "chunked",
        block(
            "window: 6, window_mode: chunked, qk_norm: {place: after_rope, weight: false}, rope: {interleaved: true}",
            name="chunked",
        )
        + block("rope: none, temperature: {form: shifted_log, scale: 0.1, length: 4}", MOE, name="whole"),
        "  - {pattern: [chunked, chunked, whole]}",
        model="  n_kv_heads: 2",
    ),
    "sinusoidal": spec(
        "sinusoidal",
        block("window: 5, qkv_bias: true", "type: mlp", "type: layernorm", name="local") + block("", name="whole"),
        "  - {pattern: [local, whole], repeat: 2}",
        embedding="  positional: sinusoidal\n  position_offset: 2\n  wavelengths: spread\n  scale: 8.0",
    ),
    "sinusoidal_by_the_paper": spec("sinusoidal_by_the_paper", embedding="  positional: sinusoidal"),
    "chunked_only": spec("chunked_only", block("window: 7, window_mode: chunked, softcap: 9.0, n_kv_heads: 1")),
    "latent_chunks": spec(
        "latent_chunks", block("latent_dim: 24, window: 5, window_mode: chunked", "type: mlp", "position: output")
    ),
    "dilated": spec(
        "dilated",
        block("window: 3, window_mode: dilated, window_dilation: 2, n_kv_heads: 2", name="sparse")
        + block("window: 4, attention_sinks: {}", name="near")
        + block("", name="whole"),
        "  - {pattern: [sparse, near, whole]}",
    ),
    "dilated_only": spec(
        "dilated_only",
        block("window: 4, window_mode: dilated, window_dilation: 3, output_gate: {over: head}"),
        embedding="  positional: alibi",
    ),
}
