"""Tiny specs of the common dense and mixture-of-experts models."""

from __future__ import annotations

from tests.variants.building import block, spec

MOE = "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32}"
DEEPSEEK_MOE = (
    "type: moe, moe: {experts: 8, top_k: 2, expert_size: 32, affinity: sigmoid, scale: 2.5, router_float32: true, "
    "groups: {count: 4, limit: 2}, bias_correction: {enabled: true}, shared_experts: 1, load_balance_coef: 0.0}"
)
MLA = "mla: {kv_rank: 16, q_rank: 24, nope_dim: 16, rope_dim: 8, v_dim: 16}, rope: {interleaved: true}"
LOSSES = (
    "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32, z_loss: 0.1, router_jitter: 0.1, normalize: false, "
    "shared_experts: 2, weights_dtype: model, bias_correction: {dtype: model}}"
)
YARN = "{type: yarn, factor: 4.0, original_max_position_embeddings: 16, mscale: 0.7, mscale_all_dim: 0.7}"
LLAMA3 = (
    "{type: llama3, factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position_embeddings: 32}"
)
LONGROPE = (
    "{type: longrope, short_factor: [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], "
    "long_factor: [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], original_max_position_embeddings: 40, factor: 2.0}"
)
ALTERNATING = "  - {pattern: [local, global], repeat: 2}"

VARIANTS: dict[str, str] = {
    "llama": spec("llama_like", model="  n_kv_heads: 2"),
    "gpt2": spec(
        "gpt2_like",
        block("qkv_bias: true, out_bias: true", "type: mlp, activation: gelu_new, bias: true", "type: layernorm"),
        embedding="  positional: learned",
    ),
    "gemma2": spec(
        "gemma2_like",
        block(
            "window: 5, softcap: 20.0, scale: 0.3",
            "type: gated_mlp, activation: gelu_pytorch_tanh",
            "position: sandwich, unit_offset: true",
            name="local",
        )
        + block(
            "softcap: 20.0, scale: 0.3",
            "type: gated_mlp, activation: gelu_pytorch_tanh",
            "position: sandwich, unit_offset: true",
            name="global",
        ),
        ALTERNATING,
        model="  n_kv_heads: 2\n  head_dim: 24",
        embedding="  positional: rope\n  scale: 8.0\n  scale_rounding: dtype",
        rest="head: {logit_softcap: 10.0}",
    ),
    "cohere2": spec(
        "cohere2_like",
        block(
            "window: 5, rope: {interleaved: true, precision: float32_rotation}",
            norm="type: layernorm, bias: false, float32_weight: true",
            residual="type: parallel",
            name="local",
        )
        + block(
            "rope: none",
            norm="type: layernorm, bias: false, float32_weight: true",
            residual="type: parallel",
            name="global",
        ),
        ALTERNATING,
        rest="head: {logit_scale: 0.25}",
    ),
    "olmo2": spec(
        "olmo2_like",
        block(
            "qk_norm: {over: full, float32_weight: true}, rope: {precision: float32}",
            norm="position: output, float32_weight: true",
        ),
        rest="head: {tie_weights: false}",
    ),
    "phi": spec(
        "phi_like",
        block(
            "qkv_bias: true, out_bias: true, rope: {partial: 0.5}",
            "type: mlp, bias: true",
            "type: layernorm",
            "type: parallel",
        ),
        rest="head: {tie_weights: false, bias: true}",
    ),
    "two_norm_parallel": spec(
        "neox_like",
        block(norm="type: layernorm, bias: false", residual="type: parallel, shared_norm: false, sum: sublayers_first"),
    ),
    "post_norm": spec("post_norm", block(norm="type: layernorm, position: post")),
    "qwen3": spec("qwen3_like", block("qk_norm: head, n_kv_heads: 1, head_dim: 32")),
    "alibi": spec(
        "alibi_like",
        block("window: 6", name="local") + block("", name="global"),
        ALTERNATING,
        embedding="  positional: alibi",
    ),
    "alibi_full": spec("alibi_full", embedding="  positional: alibi", model="  n_kv_heads: 2"),
    "no_positions": spec("nope_like", embedding="  positional: none"),
    "all_windowed": spec("windowed", block("window: 7, n_kv_heads: 2")),
    "two_ropes": spec(
        "two_ropes",
        block("window: 5", name="local")
        + block("rope: {theta: 500000.0, scaling: {type: linear, factor: 4.0}}", name="global"),
        ALTERNATING,
    ),
    "mixed_sizes": spec(
        "mixed_sizes",
        block("n_heads: 4, n_kv_heads: 2, head_dim: 16", "type: gated_mlp, intermediate_size: 64", name="small")
        + block(
            "n_heads: 2, n_kv_heads: 1, head_dim: 32",
            "type: gated_mlp, intermediate_size: 128, activation: gelu",
            name="large",
        ),
        "  - {pattern: [small, large], repeat: 2}",
    ),
    "mixtral": spec("mixtral_like", block("n_kv_heads: 2", MOE)),
    "moe_losses": spec(
        "moe_losses",
        block("", LOSSES),
    ),
    "deepseek_v3": spec(
        "deepseek_like",
        block(MLA, "type: gated_mlp", name="dense") + block(MLA, DEEPSEEK_MOE, name="sparse"),
        "  - template: dense\n  - {template: sparse, repeat: 2}",
        embedding=f"  positional: rope\n  rope: {{scaling: {YARN}}}",
        rest="head: {tie_weights: false}",
    ),
    "mla_one_line": spec("mla_line", block("latent_dim: 24, n_kv_heads: 2")),
    "mla_no_rope": spec("mla_nope", block("latent_dim: 24"), embedding="  positional: none"),
    "mla_beside_attention": spec(
        "mla_mixed",
        block("latent_dim: 24", name="latent") + block("window: 6, n_kv_heads: 2", name="local"),
        "  - {pattern: [latent, local], repeat: 2}",
    ),
    "multipliers": spec(
        "multipliers",
        block("scale: 0.1", residual="scaling: 0.22"),
        embedding="  positional: rope\n  scale: 12.0",
        rest="head: {logit_scale: 0.0625}",
    ),
    "dropout": spec("dropping", block("attn_drop: 0.1"), rest="training_hints: {dropout: 0.1}"),
    "llama3_rope": spec(
        "llama3_rope",
        embedding=f"  positional: rope\n  rope_theta: 500000.0\n  rope_scaling: {LLAMA3}",
    ),
    "longrope": spec("longrope", embedding=f"  positional: rope\n  rope_scaling: {LONGROPE}"),
    "dynamic_rope": spec("dynamic", embedding="  positional: rope\n  rope_scaling: {type: dynamic, factor: 2.0}"),
    "two_windows": spec(
        "two_windows",
        block("window: 4", name="near") + block("window: 9, n_heads: 2", name="far") + block("", name="global"),
        "  - {pattern: [near, far], repeat: 2}\n  - template: global",
    ),
    "two_windows_only": spec(
        "two_windows_only",
        block("window: 4", name="near") + block("window: 9", name="far"),
        "  - {pattern: [near, far], repeat: 2}",
    ),
    "differing_numbers": spec(
        "differing_numbers",
        block("scale: 0.2, softcap: 9.0", norm="eps: 0.1", residual="scaling: 0.5", name="first")
        + block("scale: 0.4, softcap: 5.0", norm="eps: 0.001", residual="scaling: 0.25", name="second"),
        "  - template: first\n  - {template: second, repeat: 2}",
    ),
    "layer_index": spec(
        "layer_index",
        block("scale: '${1 / (layer.index + 2)}'", "type: gated_mlp, intermediate_size: '${32 * (layer.index + 1)}'"),
        "  - {template: block, repeat: 3, override_at: [{layers: 1, attention: {window: 5}}]}",
    ),
    "scaled_rope_and_heads": spec(
        "scaled_rope_and_heads",
        block("n_heads: 4, head_dim: 16", name="many") + block("n_heads: 2, head_dim: 16", name="few"),
        "  - {pattern: [many, few], repeat: 2}",
        embedding=f"  positional: rope\n  rope: {{scaling: {YARN}}}",
    ),
    "scaled_ropes_and_heads": spec(
        "scaled_ropes_and_heads",
        block("n_heads: 4, head_dim: 16", name="many")
        + block(f"n_heads: 2, head_dim: 16, rope: {{theta: 500.0, scaling: {YARN}}}", name="few"),
        "  - {pattern: [many, few], repeat: 2}",
    ),
    "mla_window": spec("mla_window", block("latent_dim: 24, window: 6")),
    "mamba_by_name": spec("mamba rwkv"),
}
"""Specs by name."""
