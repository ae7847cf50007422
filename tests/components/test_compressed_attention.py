"""Attention to blocks equals DeepSeek-V4's, with and without a cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache
from transformers.masking_utils import create_sliding_window_causal_mask
from transformers.models.deepseek_v4.configuration_deepseek_v4 import DeepseekV4Config
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4Attention, DeepseekV4RotaryEmbedding

from eulerc.backends.hf.components import block_compressor, block_indexer, compressed_attention
from eulerc.backends.hf.components.apply_rotary import rotate_pairs
from eulerc.backends.hf.components.compressed_attention import CompressedAttention
from eulerc.backends.hf.components.eager_attention import eager_attention_forward
from eulerc.backends.hf.components.rms_norm import Float32RMSNorm
from eulerc.backends.hf.components.rotary_embedding import RotaryEmbedding
from eulerc.backends.hf.components.trailing_rotary import rotate_last_pairs_float32
from tests.components.harness import component_config, fill_slots, hidden_states, perturb

LENGTH = 29
KINDS = {"csa": "compressed_sparse_attention", "hca": "heavily_compressed_attention", None: "sliding_attention"}
ROPES = {
    "plain": {"rope_type": "default", "rope_theta": 160_000.0},
    "yarn": {"rope_type": "yarn", "rope_theta": 160_000.0, "factor": 4.0, "original_max_position_embeddings": 16},
}
NAMES = {
    "compressor.position_bias": "compressor.pool.position_bias",
    "compressor.kv_norm": "compressor.norm",
    "compressor.indexer.": "indexer.",
    "indexer.kv_proj": "indexer.compressor.kv_proj",
    "indexer.gate_proj": "indexer.compressor.gate_proj",
    "indexer.position_bias": "indexer.compressor.pool.position_bias",
    "indexer.kv_norm": "indexer.compressor.norm",
    "indexer.q_b_proj": "indexer.q_proj",
    "indexer.scorer.": "indexer.",
}


def original_config(kind: str | None, rope: dict[str, Any], topk: int) -> DeepseekV4Config:
    return DeepseekV4Config(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        head_dim=16,
        q_lora_rank=12,
        layer_types=[KINDS[kind]],
        mlp_layer_types=["moe"],
        compress_rates={"compressed_sparse_attention": 3, "heavily_compressed_attention": 5},
        sliding_window=6,
        o_groups=2,
        o_lora_rank=6,
        index_n_heads=8,
        index_head_dim=12,
        index_topk=topk,
        partial_rotary_factor=0.5,
        max_position_embeddings=64,
        rope_parameters={
            "main": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
            "compress": {**rope, "partial_rotary_factor": 0.5, **({"attention_factor": 1.0} if len(rope) > 2 else {})},
        },
        attn_implementation="eager",
    )


def our_config(theirs: DeepseekV4Config, kind: str | None) -> Any:
    label = "main" if kind is None else "compress"
    return component_config(
        **{name: getattr(theirs, name) for name in ("head_dim", "q_lora_rank", "index_topk", "index_head_dim")},
        index_n_heads=8,
        num_hidden_layers=1,
        num_key_value_heads=1,
        sliding_window=6,
        layer_types=["sliding_attention" if kind is None else "hybrid_sliding"],
        number_of_conv_states=2,
        compression=kind,
        keeps_blocks=kind is not None,
        overlapping_series=kind == "csa",
        block_norm=True,
        block_rope=True,
        pool="softmax_gated",
        indexer_arch="relu_mha" if kind == "csa" else None,
        compress_block_size=3 if kind == "csa" else 5,
        grouped_output=True,
        attention_sinks="learned",
        sink_placement="softmax",
        partial_rotary=True,
        rope_parameters=theirs.rope_parameters[label],
    )


def models(
    kind: str | None, rope: dict[str, Any], dtype: torch.dtype, topk: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any, Any, Any]:
    for component in (block_compressor, block_indexer, compressed_attention):
        if hasattr(component, "LatentNorm"):
            fill_slots(monkeypatch, component, LatentNorm=Float32RMSNorm)
        fill_slots(monkeypatch, component, rotate_last=rotate_last_pairs_float32)
    theirs = original_config(kind, rope, topk)
    original = perturb(DeepseekV4Attention(theirs, layer_idx=0))
    ours = CompressedAttention(our_config(theirs, kind), layer_idx=0).eval()
    state = {}
    for name, tensor in original.state_dict().items():
        for before, after in NAMES.items():
            name = name.replace(before, after) if name.startswith((before, f"compressor.{before}")) else name
        state[name] = tensor
    ours.load_state_dict(state)
    for module in (original, ours):
        for name, parameter in module.named_parameters():
            if not any(word in name for word in ("norm", "sinks", "position_bias")):
                parameter.data = parameter.data.to(dtype)
    return theirs, original, our_config(theirs, kind), ours


def run_theirs(config: Any, module: Any, chunks: list[torch.Tensor], cached: bool) -> torch.Tensor:
    rotary, cache, start, outputs = DeepseekV4RotaryEmbedding(config), None, 0, []
    cache = DynamicCache(config=config) if cached else None
    for chunk in chunks:
        positions = torch.arange(start, start + chunk.shape[1])[None].expand(len(chunk), -1)
        tables = {label: rotary(chunk, positions, label) for label in ("main", "compress")}
        mask = mask_of(config, chunk, cache, positions)
        outputs.append(module(chunk, tables, positions, mask, cache)[0])
        start += chunk.shape[1]
    return torch.cat(outputs, dim=1)


def run_ours(config: Any, module: Any, chunks: list[torch.Tensor], cached: bool) -> torch.Tensor:
    rotary, start, outputs = RotaryEmbedding(config), 0, []
    cache = DynamicCache(config=config) if cached else None
    for chunk in chunks:
        positions = torch.arange(start, start + chunk.shape[1])[None]
        mask = mask_of(config, chunk, cache, positions)
        outputs.append(module(chunk, rotary(chunk, positions), mask, None, cache, position_ids=positions)[0])
        start += chunk.shape[1]
    return torch.cat(outputs, dim=1)


def mask_of(config: Any, chunk: torch.Tensor, cache: Any, positions: torch.Tensor) -> torch.Tensor | None:
    return create_sliding_window_causal_mask(
        config=config, inputs_embeds=chunk, attention_mask=None, past_key_values=cache, position_ids=positions
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rope", ROPES.values(), ids=ROPES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_attention_to_blocks_equals_deepseek_v4(kind, rope, dtype, monkeypatch):
    theirs, original, config, ours = models(kind, rope, dtype, 3, monkeypatch)
    states = hidden_states(config, length=LENGTH).to(dtype)
    with torch.no_grad():
        wanted, output = run_theirs(theirs, original, [states], False), run_ours(config, ours, [states], False)
    if dtype is torch.bfloat16:
        assert torch.equal(output, wanted)
    else:
        torch.testing.assert_close(output, wanted, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("chunks", [[1] * 29, [7, 1, 1, 1, 19], [4, 25], [2, 1, 26]], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_cached_attention_to_blocks_equals_deepseek_v4(kind, chunks, monkeypatch):
    theirs, original, config, ours = models(kind, ROPES["plain"], torch.float32, 16, monkeypatch)
    states = hidden_states(config, length=LENGTH)
    with torch.no_grad():
        whole = run_theirs(theirs, original, [states], False)
        output = run_ours(config, ours, list(states.split(chunks, dim=1)), True)
    torch.testing.assert_close(output, whole, atol=5e-6, rtol=5e-6)


def test_gradients_of_attention_to_blocks_equal_deepseek_v4(monkeypatch):
    theirs, original, config, ours = models("hca", ROPES["plain"], torch.float32, 3, monkeypatch)
    states = hidden_states(config, length=LENGTH)
    run_theirs(theirs, original, [states], False).square().sum().backward()
    run_ours(config, ours, [states], False).square().sum().backward()
    wanted = {name: parameter.grad for name, parameter in original.named_parameters()}
    for name, parameter in ours.named_parameters():
        theirs_name = name.replace("compressor.pool.position_bias", "compressor.position_bias")
        theirs_name = theirs_name.replace("compressor.norm", "compressor.kv_norm")
        torch.testing.assert_close(parameter.grad, wanted[theirs_name], atol=2e-4, rtol=2e-4)


def test_rotation_of_the_last_dims_leaves_the_others():
    states = torch.randn(2, 3, 5, 8)
    angles = torch.rand(2, 5, 2)
    cos, sin = (torch.cat((table, table), dim=-1) for table in (angles.cos(), angles.sin()))
    rotated = rotate_last_pairs_float32(states, cos, sin)
    assert torch.equal(rotated[..., :4], states[..., :4])
    torch.testing.assert_close(
        rotated[..., 4:], rotate_pairs(states[..., 4:], angles.cos()[:, None], angles.sin()[:, None])
    )
    assert eager_attention_forward is not None
