"""Tiny specs of loops, blocks shared over depth and integrators."""

from __future__ import annotations

from tests.variants.building import PLAIN, block, spec
from tests.variants.latent import GLM_INDEXER, SIZES

VARIANTS: dict[str, str] = {
    "looped": spec(
        "looped",
        PLAIN + block("window: 5, n_kv_heads: 2", "type: mlp, intermediate_size: 40", name="local"),
        "  - {template: local}\n"
        "  - loop:\n"
        "      times: 2\n"
        "      body:\n"
        "        - {template: block}\n"
        "        - loop: {times: 2, body: [{pattern: [local, {template: block, share: memory}]}]}\n"
        "  - {template: block, share: memory}",
    ),
    "looped_mixers": spec(
        "looped_mixers",
        block(f"mla: {{{SIZES}}}, {GLM_INDEXER}, rope: {{interleaved: true}}", name="choosing")
        + block(f"mla: {{{SIZES}}}, indexer: shared, rope: {{interleaved: true}}", name="sharing")
        + block("differential: {}, rope: {interleaved: true}", name="differing")
        + block("mixture: {experts: 4, top_k: 2, recorded: 2}, n_kv_heads: 2, window: 6, rope: none", name="routed")
        + "  scanning:\n    mixer: {type: mamba, mamba: {d_state: 8, chunk_size: 8}}\n    ffn: {type: none}\n",
        "  - loop: {times: 2, body: [{pattern: [choosing, sharing, differing, routed, scanning]}]}\n"
        "  - {template: routed, override: {residual: {scaling: 0.5}}}",
    ),
    "integrated": spec(
        "integrated",
        PLAIN + block("window: 5", "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32}", name="local"),
        "  - template: block\n"
        "  - integrator: {type: ode_euler, steps: 2, body: [{template: local}, {template: block, share: both}]}\n"
        "  - {template: block, share: both}\n"
        "  - integrator: {type: ode_rk4, steps: 2, body: local, output: hidden}\n",
    ),
}
"""Specs by name."""
