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
    "skips": spec(
        "skips",
        block(
            residual="skip: normed, skip_scaling: {mixer: 0.5, ffn: 2}, scaling: {mixer: 2.0}, branch_weight: channel",
            name="normed",
        )
        + block(
            "window: 5",
            norm="position: sandwich, mixer: {eps: 0.1}",
            residual="skip_weight: affine, scaling: '${1 / (layer.index + 2)}', layer_scalar: true",
            name="weighted",
        )
        + block(
            residual="type: parallel, skip: normed, skip_scaling: 0.7, skip_weight: channel, branch_weight: affine",
            name="parallel",
        ),
        "  - {pattern: [normed, weighted, parallel], layers: 5}",
        rest="head: {norm: {type: layernorm, bias: false, eps: 0.03}}",
    ),
    "norms_by_sublayer": spec(
        "norms_by_sublayer",
        block(norm="type: layernorm, mixer: {type: none}", name="first")
        + block(norm="type: rmsnorm, ffn: {position: sandwich}", name="routed")
        + block(
            "window: 4",
            norm="type: layernorm, mixer: {type: rmsnorm, position: post, eps: 0.2}, ffn: {position: output}",
            residual="skip_scaling: 0.9",
            name="mixed",
        )
        + block(
            norm="position: output, mixer: {position: pre}",
            residual="type: parallel, layer_scalar: true",
            name="beside",
        )
        + block(norm="type: none", residual="branch_weight: channel", name="bare"),
        "  - template: first\n  - {pattern: [routed, mixed, beside]}\n  - template: bare",
        rest="training_hints: {dropout: 0.1}",
    ),
    "narrow_embedding": spec(
        "narrow_embedding",
        block("qkv_bias: true", "type: mlp", "type: layernorm, position: post"),
        embedding="  positional: learned\n  width: 24\n  scale: 4.9\n  scale_rounding: bfloat16",
        rest="head: {hidden_divisor: 3.0, logit_divisor: 0.7, logit_softcap: 9.0, softcap_dtype: float32, "
        "vocab_size: 90, bias: true}",
    ),
    "head_transform": spec(
        "head_transform",
        block(norm="type: layernorm, bias: false"),
        embedding="  norm: {type: layernorm, bias: false}",
        rest="head: {hidden_divisor: 2.0, transform: {activation: relu, norm: {type: layernorm, eps: 0.01}}}",
    ),
    "wide_embedding": spec(
        "wide_embedding",
        block("n_kv_heads: 2"),
        embedding="  positional: rope\n  width: 80",
        rest="head: {tie_weights: false, vocab_size: 91, norm: none, transform: {activation: silu, norm: {}}}",
    ),
    "ffn_branches": spec(
        "ffn_branches",
        block(
            ffn="type: parallel, branches: {dense: {type: gated_mlp, after: {eps: 0.1}}, sparse: {type: moe, "
            "input: stream, before: {}, after: {type: layernorm}, moe: {experts: 4, top_k: 2, expert_size: 32, "
            "shared_experts: 1}}}",
            norm="position: sandwich",
            residual="scaling: {ffn: 0.5}",
            name="routed",
        )
        + block(
            ffn="type: parallel, branches: {wide: {type: gated_mlp, bias: true}, plain: {type: mlp, activation: silu}, "
            "last: {type: mlp, activation: silu, before: {weight: false, eps: 0.2}}}",
            residual="type: parallel, sum: sublayers_first",
            name="beside",
        ),
        "  - {pattern: [routed, beside], repeat: 2}",
        rest="training_hints: {dropout: 0.1}",
    ),
    "special_norms": spec(
        "special_norms",
        block(norm="type: gated_rmsnorm, rank: 8, ffn: {eps: 0.1}", name="gated")
        + block(
            norm="type: grouped_rmsnorm, groups: 4, mixer: {type: rmsnorm, eps: 0.2}",
            residual="type: parallel, shared_norm: false",
            name="grouped",
        )
        + block(
            norm="type: gated_rmsnorm, rank: 4, position: sandwich, output: {eps: 0.3}, ffn: {type: layernorm}",
            name="narrow",
        ),
        "  - {pattern: [gated, grouped, narrow], layers: 4}\n  - template: narrow",
    ),
}
"""Specs by name."""
