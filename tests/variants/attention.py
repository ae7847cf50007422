"""Tiny specs of what attention may have beyond heads, scale and window, several at a time."""

from __future__ import annotations

from tests.variants.building import block, spec
from tests.variants.core import ALTERNATING, MOE

VARIANTS: dict[str, str] = {
    "sinks_and_gates": spec(
        "sinks_and_gates",
        block("window: 5, attention_sinks: {}, output_gate: {bias: gate}, k_bias: true", name="local")
        + block(
            "rope: none, n_kv_heads: 1, output_gate: {over: head, activation: softplus}, "
            "temperature: {form: shifted_log, scale: 0.2, length: 4}",
            MOE,
            name="global",
        ),
        ALTERNATING,
        model="  n_kv_heads: 2",
    ),
    "value_heads": spec(
        "value_heads",
        block(
            "v_head_dim: 24, v_norm: {weight: false}, value_scale: 0.7, key_scale: 1.5, clip_qkv: 2.0, qk_norm: full, "
            "n_kv_heads: 2, rope: {partial: 0.5, interleaved: true}, attention_sinks: {placement: gate}, "
            "out_norm: {float32_weight: true, eps: 0.01}"
        ),
    ),
    "query_gate": spec(
        "query_gate",
        block(
            "qk_norm: {unit_offset: true}, output_gate: {source: query, bias: head}, q_bias: true, v_bias: true, "
            "score_dtype: float32, head_dim: 24, n_kv_heads: 2",
            residual="type: parallel",
        ),
    ),
    "norm_after_rope": spec(
        "norm_after_rope",
        block(
            "qk_norm: {place: after_rope}, rope: {negated: true}, k_eq_v: true, v_norm: {}, window: 6",
            name="local",
        )
        + block(
            "qk_norm: {over: heads, eps: 0.01}, k_eq_v: true, head_dim: 32, n_heads: 2, "
            "temperature: {scale: 0.3, length: 3, rounding: dtype}",
            name="global",
        ),
        ALTERNATING,
        model="  n_kv_heads: 2",
    ),
    "fixed_sinks": spec(
        "fixed_sinks",
        block(
            "softcap: 5.0, attention_sinks: {learnable: false}, score_dtype: float32, out_norm: {type: layernorm}, "
            "temperature: {form: power, scale: 0.1, length: 8}"
        ),
        embedding="  positional: alibi",
    ),
}
