"""Tiny specs of attention whose heads are those of chosen experts, and of biases that differ between layers."""

from __future__ import annotations

from tests.variants.building import block, spec

VARIANTS: dict[str, str] = {
    "mixture_attention": spec(
        "mixture_attention",
        block(
            "mixture: {experts: 5, top_k: 2, recorded: 2}, out_bias: true, window: 5, "
            "qk_norm: {place: after_rope, weight: false}, rope: {interleaved: true, partial: 0.5}",
            "type: moe, activation_float32: true, "
            "moe: {experts: 4, top_k: 3, expert_size: 32, output_bias: true, shared_experts: 1, "
            "router_norm: {weight: false}, router_gain: true, expert_gain: true, expert_norm: {type: layernorm}}",
            name="near",
        )
        + block(
            "mixture: {experts: 4, top_k: 4, recorded: 2}, rope: none, softcap: 9.0, head_dim: 24, qk_norm: head",
            norm="type: layernorm, position: sandwich",
            name="global",
        )
        + block("n_kv_heads: 2, attention_sinks: {dtype: float32}", name="plain"),
        "  - {pattern: [near, global, plain, near]}",
    ),
    "mixture_alibi": spec(
        "mixture_alibi",
        block("mixture: {experts: 6, top_k: 2, z_loss: 0.1}, n_kv_heads: 2", residual="type: parallel")
        + block("n_heads: 6, n_kv_heads: 2, head_dim: 24, window: 5", name="wide"),
        "  - {pattern: [block, wide, wide]}",
        embedding="  positional: alibi\n  alibi: {bias_max: 5.0, scaled: true}",
        rest="compatibility: {dtype_policy: layered_safe}\nhead: {tie_weights: false}\n"
        "training_hints: {init: mup_0.05, mup_base_width: 16, router_lr_multiplier: 0.5}",
    ),
}
"""Specs by name."""
