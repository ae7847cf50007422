"""Latent attention equals DeepSeek-V3's, a loop over queries, and itself with a cache; the cache holds the latent."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
import torch
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

from eulerc.backends.hf.components import apply_rotary, attention, latent_attention
from eulerc.backends.hf.components.eager_attention import eager_softcapped_attention_forward
from eulerc.backends.hf.components.latent_attention import LatentAttention
from eulerc.backends.hf.components.rotary_embedding import RotaryEmbedding
from tests.components import harness, references
from tests.components.harness import (
    LENGTH,
    assert_float32_close,
    causal_mask,
    copy_weights,
    decode,
    fill_slots,
    hidden_states,
    new_cache,
    perturb,
)

component_config = partial(harness.component_config, v_head_dim=6)
cached_config = partial(harness.cached_config, v_head_dim=6)

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 6,
    "max_position_embeddings": 64,
    "attn_implementation": "eager",
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "mscale": 1.0,
    "mscale_all_dim": 0.8,
}
DEEPSEEK = {
    "full queries": {"q_lora_rank": None},
    "low-rank queries": {"q_lora_rank": 10, "attention_bias": True},
    "yarn": {"q_lora_rank": 10, "rope_parameters": YARN},
    "halves": {"q_lora_rank": None, "rope_interleave": False},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", DEEPSEEK.values(), ids=DEEPSEEK)
def test_latent_attention_equals_deepseek_v3(options, dtype, monkeypatch):
    if not options.get("rope_interleave", True):
        fill_slots(monkeypatch, latent_attention, apply_rotary_pos_emb=apply_rotary.apply_rotary_pos_emb)
    original_config = DeepseekV3Config(**SIZES, **options)
    facts = {name: value for name, value in options.items() if name != "rope_interleave"}
    bias = options.get("attention_bias", False)
    config = harness.component_config(
        **SIZES, **facts, attention_out_bias=bias, rope_mscale="rope_parameters" in options
    )
    original = perturb(DeepseekV3Attention(original_config, layer_idx=0)).to(dtype)
    ours = LatentAttention(config, layer_idx=0).eval().to(dtype)
    copy_weights(original, ours)
    states, mask, positions = hidden_states(config).to(dtype), causal_mask(dtype), torch.arange(LENGTH)[None]
    output = ours(states, RotaryEmbedding(config)(states, positions), mask)[0]
    original_output = original(states, DeepseekV3RotaryEmbedding(original_config)(states, positions), mask)[0]
    if dtype is torch.float32:
        assert_float32_close(output, original_output)
    else:
        assert torch.equal(output, original_output)


@pytest.mark.parametrize("groups", [4, 2, 1])
def test_latent_attention_equals_a_loop_over_queries(groups):
    config = cached_config(rope=False, shared_key=False, num_key_value_heads=groups)
    module = perturb(LatentAttention(config, layer_idx=0))
    output = decode(module, config, [LENGTH], None)[1]
    reference = references.latent_attention(module, hidden_states(config)[1])
    torch.testing.assert_close(output, reference, rtol=1e-4, atol=1e-4)


CACHED = {
    "rope": {},
    "no rope": {"rope": False, "shared_key": False},
    "a shared key that does not rotate": {"rope": False},
    "low-rank queries": {"q_lora_rank": 10},
    "window": {"sliding_window": 4},
    "window without rope": {"sliding_window": 4, "rope": False, "shared_key": False},
    "no norms": {"latent_norm": False},
}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("facts", CACHED.values(), ids=CACHED)
def test_prefill_equals_step_by_step(facts, kind, implementation):
    config = cached_config(attn_implementation=implementation, **facts)
    module = perturb(LatentAttention(config, layer_idx=0))
    whole = decode(module, config, [LENGTH], None)
    stepwise = decode(module, config, [1] * LENGTH, new_cache(kind, config))
    in_chunks = decode(module, config, [5, 1, 3, 2], new_cache(kind, config))
    for output in (stepwise, in_chunks):
        torch.testing.assert_close(output[0, 2:], whole[0, 2:], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output[1], whole[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rope", "shared_key", "width"), [(True, True, 8), (False, True, 8), (False, False, 0)])
def test_cache_holds_the_latent_and_the_shared_key_only(rope, shared_key, width):
    config = cached_config(rope=rope, shared_key=shared_key)
    cache = new_cache("dynamic", config)
    decode(perturb(LatentAttention(config, layer_idx=0)), config, [LENGTH], cache)
    assert cache.layers[0].keys.shape == (2, 1, LENGTH, config.kv_lora_rank)
    assert cache.layers[0].values.shape == (2, 1, LENGTH, width)
    cache.reorder_cache(torch.tensor([1, 0]))
    assert cache.get_seq_length() == LENGTH


FACTS = {
    "attention_bias": (False, True),
    "attention_out_bias": (False, True),
    "q_lora_rank": (None, 10),
    "latent_norm": (False, True),
    "rope": (False, True),
    "sliding_window": (None, 4),
    "attention_multiplier": (None, 0.3),
}


@pytest.mark.parametrize("rope_mscale", [False, True])
def test_every_combination_of_facts_runs_forward_and_backward(rope_mscale):
    for values in product(*FACTS.values()):
        facts = dict(zip(FACTS, values, strict=True))
        config = cached_config(rope_parameters=YARN, rope_mscale=rope_mscale, **facts)
        module = perturb(LatentAttention(config, layer_idx=0)).train()
        decode(module, config, [LENGTH], None).square().sum().backward()
        assert all(torch.isfinite(weight.grad).all() for weight in module.parameters()), facts


def test_mscale_multiplies_the_scale_by_its_square():
    config = component_config(rope_parameters=YARN)
    scaled = component_config(rope_parameters=YARN, rope_mscale=True)
    mscale = latent_attention.yarn_mscale(YARN)
    assert mscale == pytest.approx(1.1109, abs=1e-4)
    assert LatentAttention(scaled, 0).scaling == LatentAttention(config, 0).scaling * mscale * mscale
    assert latent_attention.yarn_mscale({**YARN, "factor": 1.0}) == 1.0


@pytest.mark.parametrize(
    ("component", "module_class"),
    [(attention, attention.Attention), (latent_attention, LatentAttention)],
)
def test_soft_cap_bounds_the_scores(component, module_class, monkeypatch):
    value_dim = 6 if module_class is LatentAttention else None
    config = harness.cached_config(attn_logit_softcapping=1e-6, v_head_dim=value_dim)
    module = perturb(module_class(config, layer_idx=0))
    fill_slots(monkeypatch, component, eager_attention_forward=eager_softcapped_attention_forward)
    states = hidden_states(config)
    mask = causal_mask(torch.float32, padding=0)
    tables = RotaryEmbedding(config)(states, torch.arange(LENGTH)[None])
    weights = module(states, tables, mask)[1]
    even = torch.ones(LENGTH, LENGTH).tril() / torch.arange(1, LENGTH + 1)[:, None]
    torch.testing.assert_close(weights, even.expand_as(weights), rtol=1e-5, atol=1e-5)
