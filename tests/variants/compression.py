"""Tiny specs of attention to blocks of tokens."""

from tests.variants.building import block, spec
from tests.variants.core import DEEPSEEK_MOE

# Relu scores tie at 0, so that rounding would choose among equal blocks: these queries read all, or have no relu
INDEXER = "indexer: {arch: relu_mha, n_heads: 2, d_per_head: 6}"
CSA = f"type: csa, m_block: 4, top_k_blocks: 99, {INDEXER}"
LEARNED = "indexer: {arch: learned_block_sel, n_heads: 3, d_per_head: 12, dtype: fp8}"

VARIANTS: dict[str, str] = {
    "blocks_of_deepseek_v4": spec(
        "packed",
        block(
            f"n_kv_heads: 1, window: 5, compression: {{{CSA}, q_rank: 24, out_groups: 2, out_rank: 8}}, "
            "rope: {partial: 0.5, interleaved: true}",
            DEEPSEEK_MOE,
            name="sparse",
        )
        + block(
            "n_kv_heads: 2, compression: {type: hca, m_block: 8, norm_eps: 0.01}, rope: {theta: 500.0}, "
            "attention_sinks: {}, qkv_bias: true, out_bias: true",
            name="heavy",
        )
        + block("window: 6, compression: {type: none, q_rank: 12}, rope: none", name="near"),
        "  - {pattern: [near, sparse, heavy]}\n  - {template: sparse}",
    ),
    "blocks_pooled": spec(
        "pooled",
        block(
            "window: 7, compression: {type: csa, m_block: 4, top_k_blocks: 99, pool: learned_pool, "
            "indexer: {arch: dot_product, n_heads: 2, d_per_head: 16, dtype: bf16}}",
            residual="type: parallel",
            name="sparse",
        )
        + block(
            f"compression: {{type: csa, m_block: 4, top_k_blocks: 99, pool: max, {LEARNED}}}, scale: 0.3",
            name="largest",
        )
        + block("n_heads: 2, compression: {type: hca, m_block: 4, pool: mean}", name="heavy")
        + block("window: 4", name="window"),
        "  - {pattern: [sparse, window, largest, heavy]}",
        embedding="  positional: none",
    ),
    "blocks_beside_others": spec(
        "crowded",
        block(
            "type: branched, branched: {branches: {heavy: {type: attention, attention: {compression: {type: hca, "
            "m_block: 4}, window: 5}}, recurrent: {type: mamba, mamba: {d_state: 8, chunk_size: 8}}, sparse: {type: "
            "attention, attention: {compression: {type: nsa_learned, m_block: 4, top_k_blocks: 99}, rope: none}}}}",
            name="branched",
        )
        + block("compression: {type: csa, m_block: 8, top_k_blocks: 99, pool: mean, " + LEARNED + "}", name="learning")
        + "    memory: {type: neural_memory, params: {hidden: 16}, chunk_size: 4, update_at_inference: true}\n",
        "  - {pattern: [branched, learning]}",
    ),
    "native_sparse": spec(
        "sparse of rwkv",
        block(
            "window: 5, n_kv_heads: 2, compression: {type: nsa_learned, m_block: 8, stride: 4, select_block: 8, "
            "top_k_blocks: 99}",
            name="learned",
        )
        + block(
            "window: 6, window_mode: nsa, window_dilation: 2, n_kv_heads: 4, rope: none, out_bias: true", name="mode"
        )
        + block(
            "compression: {type: nsa_learned, m_block: 4, stride: 4, select_block: 8, pool: softmax_gated, "
            "indexer: {arch: relu_mha, n_heads: 2, d_per_head: 12, dtype: fp4}}, qkv_bias: true, "
            "rope: {partial: 0.5, interleaved: true, precision: float32_rotation}",
            DEEPSEEK_MOE,
            name="indexed",
        )
        + block("window: 9", name="window"),
        "  - {pattern: [learned, window, mode, indexed]}",
    ),
}
