"""Tiny specs whose prefix sees ahead: in all layers, in some, beside windows, latents, sinks and biases."""

from __future__ import annotations

from tests.variants.building import block, spec
from tests.variants.core import MLA, MOE

VARIANTS: dict[str, str] = {
    "prefix": spec("prefix", block("prefix_lm: true, n_kv_heads: 2", MOE)),
    "prefix_alibi": spec(
        "prefix_alibi",
        block("prefix_lm: true, window: 5", name="local") + block("prefix_lm: true, differential: {}", name="whole"),
        "  - {pattern: [local, whole]}",
        embedding="  positional: alibi",
    ),
    "prefix_in_some": spec(
        "prefix_in_some",
        block("prefix_lm: true, window: 5, attention_sinks: {}", name="near")
        + block("window: 5, dynamic_mask: {keep: 40}", name="plain")
        + block(f"prefix_lm: true, {MLA}", name="latent"),
        "  - {pattern: [near, plain, latent]}",
    ),
    "prefix_chunked": spec(
        "prefix_chunked",
        block("prefix_lm: true, window: 6, window_mode: chunked", name="chunked")
        + block(f"{MLA}, prefix_lm: true, indexer: {{n_heads: 4, head_dim: 16, top_k: 8}}", name="indexed"),
        "  - {pattern: [chunked, indexed]}",
    ),
    "prefix_dilated": spec(
        "prefix_dilated",
        block("prefix_lm: true, window: 3, window_mode: dilated, window_dilation: 2", name="sparse")
        + block("rope: none", name="whole"),
        "  - {pattern: [sparse, whole]}",
    ),
}
