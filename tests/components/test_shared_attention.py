"""Attention on an earlier layer's keys and values equals the library's in Gemma 4, and a loop over queries."""

from __future__ import annotations

import pytest
import torch
from transformers.models.gemma4.configuration_gemma4 import Gemma4TextConfig
from transformers.models.gemma4.modeling_gemma4 import Gemma4TextAttention, Gemma4TextRotaryEmbedding

from eulerc.backends.hf.components import apply_rotary, attention, query_rotary, rms_norm, shared_attention
from eulerc.backends.hf.components.apply_partial_rotary import apply_partial_rotary_pos_emb
from eulerc.backends.hf.components.attention import Attention
from eulerc.backends.hf.components.rotary_embedding import RotaryEmbedding
from eulerc.backends.hf.components.shared_attention import SharedAttention
from tests.components import references
from tests.components.harness import (
    BATCH,
    LENGTH,
    assert_float32_close,
    causal_mask,
    component_config,
    copy_weights,
    fill_slots,
    hidden_states,
    perturb,
)

ENDINGS = ("", "_float32", "_interleaved", "_interleaved_float32", "_neighbours", "_neighbours_float32")


@pytest.mark.parametrize("facts", [{}, {"rope": False}, {"sliding_window": 3}], ids=["rope", "no rope", "window"])
def test_shared_attention_equals_a_loop_over_queries(facts):
    config = component_config(hands_on=True, **facts)
    maker, taker = perturb(Attention(config, 0)), perturb(SharedAttention(config, 1), seed=1)
    earlier, later = hidden_states(config), hidden_states(config, seed=2)
    tables = RotaryEmbedding(config)(earlier, torch.arange(LENGTH)[None])
    mask = causal_mask(torch.float32, config.sliding_window)
    kept = maker(earlier, tables, mask)[2:]
    output = taker(later, tables, mask, *kept)[0][1]
    width = 8 if config.rope else 0
    wanted = references.attention(taker, later[1], width, maker, earlier[1])
    torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [None, 4])
def test_making_and_taking_equal_gemma_4(monkeypatch, window, dtype):
    kind = "full_attention" if window is None else "sliding_attention"
    rope = {"rope_type": "default", "rope_theta": 1e4}
    original_config = Gemma4TextConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        global_head_dim=8,
        num_kv_shared_layers=1,
        sliding_window=4,
        rope_parameters={"full_attention": rope, "sliding_attention": rope},
        attn_implementation="eager",
    )
    # Its own rule would make the last layer see everything
    original_config.layer_types = [kind] * 3
    fill_slots(monkeypatch, attention, QKNorm=rms_norm.Float32RMSNorm, ValueNorm=rms_norm.UnweightedRMSNorm)
    fill_slots(monkeypatch, shared_attention, QKNorm=rms_norm.Float32RMSNorm)
    norms = {"qk_norm": "head", "value_norm": True, "stepwise_projections": True}
    config = component_config(hands_on=True, attention_multiplier=1.0, sliding_window=window, **norms)
    maker, taker = Attention(config, 0).eval().to(dtype), SharedAttention(config, 1).eval().to(dtype)
    original_maker = perturb(Gemma4TextAttention(original_config, layer_idx=1)).to(dtype)
    original_taker = perturb(Gemma4TextAttention(original_config, layer_idx=2), seed=1).to(dtype)
    copy_weights(original_maker, maker)
    copy_weights(original_taker, taker)
    states = hidden_states(config).to(dtype)
    mask, positions = causal_mask(dtype, window), torch.arange(LENGTH)[None]
    tables = RotaryEmbedding(config)(states, positions)
    original_tables = Gemma4TextRotaryEmbedding(original_config)(states, positions, kind)
    made, _, *kept = maker(states, tables, mask)
    found = (made, taker(made, tables, mask, *kept)[0])
    handed: dict = {}
    original_made = original_maker(states, original_tables, mask, handed)[0]
    wanted = (original_made, original_taker(original_made, original_tables, mask, handed)[0])
    for ours, theirs in zip(found, wanted, strict=True):
        if dtype is torch.float32:
            assert_float32_close(ours, theirs)
        else:
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("ending", ENDINGS)
def test_queries_alone_turn_as_they_do_beside_keys(ending):
    config = component_config(rope_neighbours="neighbours" in ending)
    query = torch.randn(BATCH, 4, LENGTH, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    tables = RotaryEmbedding(config)(query, torch.arange(LENGTH)[None])
    together = getattr(apply_rotary, f"apply_rotary_pos_emb{ending}")(query, query[:, :2], *tables)[0]
    assert torch.equal(getattr(query_rotary, f"rotate_queries{ending}")(query, *tables), together)


def test_queries_alone_turn_in_part_as_they_do_beside_keys():
    config = component_config()
    query = torch.randn(BATCH, 4, LENGTH, 12, generator=torch.Generator().manual_seed(0))
    tables = RotaryEmbedding(config)(query, torch.arange(LENGTH)[None])
    together = apply_partial_rotary_pos_emb(query, query[:, :2], *tables)[0]
    assert torch.equal(query_rotary.rotate_queries_partially(query, *tables), together)
