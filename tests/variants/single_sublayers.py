"""Tiny specs of layers with one sublayer alone."""

from __future__ import annotations

from tests.variants.building import block, spec

NO_MIXER = "  {name}:\n    mixer: {{type: none}}\n    ffn: {{{ffn}}}\n{more}"


def alone(name: str, ffn: str = "type: gated_mlp", more: str = "") -> str:
    """A template without a mixer."""
    return NO_MIXER.format(name=name, ffn=ffn, more=f"    {more}\n" if more else "")


VARIANTS: dict[str, str] = {
    "single_sublayers": spec(
        "single_sublayers",
        alone("dense", "type: mlp, activation: relu2", "norm: {position: sandwich}")
        + block("n_kv_heads: 2", ffn="type: none", residual="skip_weight: channel", name="global")
        + block("window: 5", ffn="type: none", norm="position: post", name="local")
        + alone("sparse", "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32}", "residual: {scaling: 0.5}")
        + block("window: 9, rope: {theta: 500.0}", name="both"),
        "  - {pattern: [dense, global, sparse, local]}\n  - loop: {times: 2, body: [{pattern: [both, dense]}]}\n"
        "  - template: global",
    ),
    "single_alibi": spec(
        "single_alibi",
        alone("dense", more="residual: {skip: normed}") + block("window: 4", ffn="type: none", name="local"),
        "  - {pattern: [dense, local], repeat: 2}\n  - template: dense",
        embedding="  positional: alibi",
    ),
}
"""Specs by name."""
