"""Attention equals the library's in eight families, a loop over tokens, and itself with a cache."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from attrs import field, frozen
from torch import nn
from transformers.models.cohere2.configuration_cohere2 import Cohere2Config
from transformers.models.cohere2.modeling_cohere2 import Cohere2Attention, Cohere2RotaryEmbedding
from transformers.models.gemma2.configuration_gemma2 import Gemma2Config
from transformers.models.gemma2.modeling_gemma2 import Gemma2Attention, Gemma2RotaryEmbedding
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.models.mistral.configuration_mistral import MistralConfig
from transformers.models.mistral.modeling_mistral import MistralAttention, MistralRotaryEmbedding
from transformers.models.mixtral.configuration_mixtral import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralAttention, MixtralRotaryEmbedding
from transformers.models.olmo2.configuration_olmo2 import Olmo2Config
from transformers.models.olmo2.modeling_olmo2 import Olmo2Attention, Olmo2RotaryEmbedding
from transformers.models.phi.configuration_phi import PhiConfig
from transformers.models.phi.modeling_phi import PhiAttention, PhiRotaryEmbedding
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding

from eulerc.backends.hf.components import apply_rotary, attention, rms_norm
from eulerc.backends.hf.components.apply_partial_rotary import apply_partial_rotary_pos_emb
from eulerc.backends.hf.components.attention import Attention
from eulerc.backends.hf.components.eager_attention import eager_softcapped_attention_forward
from eulerc.backends.hf.components.rotary_embedding import RotaryEmbedding
from tests.components import references
from tests.components.harness import (
    LENGTH,
    assert_float32_close,
    cached_config,
    causal_mask,
    component_config,
    copy_weights,
    decode,
    fill_slots,
    hidden_states,
    new_cache,
    perturb,
)

BIASES = {"query_bias": True, "key_bias": True, "value_bias": True}

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "attn_implementation": "eager",
}
PARTIAL = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}


@frozen
class Family:
    """An attention of the library, and the facts and slots by which ours must equal it."""

    config: Any
    attention: Any
    rotary: Any
    facts: dict[str, Any] = field(factory=dict)
    slots: dict[str, Any] = field(factory=dict)
    layer: int = 0
    window: int | None = None
    names: dict[str, str] = field(factory=dict)


FAMILIES = {
    "mistral": Family(
        MistralConfig(**SIZES, sliding_window=4),
        MistralAttention,
        MistralRotaryEmbedding,
        {"sliding_window": 4},
        window=4,
    ),
    "mixtral": Family(
        MixtralConfig(**SIZES),
        MixtralAttention,
        MixtralRotaryEmbedding,
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    "qwen3": Family(
        Qwen3Config(**SIZES, attention_bias=True, rms_norm_eps=1e-5),
        Qwen3Attention,
        Qwen3RotaryEmbedding,
        {"qk_norm": "head", "qk_norm_eps": 1e-5, **BIASES, "attention_out_bias": True},
    ),
    "olmo2": Family(
        Olmo2Config(**SIZES, rms_norm_eps=1e-5),
        Olmo2Attention,
        Olmo2RotaryEmbedding,
        {"qk_norm": "full", "qk_norm_eps": 1e-5, "rope_in_float32": True},
        {"QKNorm": rms_norm.Float32RMSNorm, "apply_rotary_pos_emb": apply_rotary.apply_rotary_pos_emb_float32},
    ),
    "gemma2": Family(
        Gemma2Config(**SIZES, query_pre_attn_scalar=24, attn_logit_softcapping=2.0, sliding_window=4),
        Gemma2Attention,
        Gemma2RotaryEmbedding,
        {"attention_multiplier": 24**-0.5, "attn_logit_softcapping": 2.0, "sliding_window": 4},
        {"eager_attention_forward": eager_softcapped_attention_forward},
        window=4,
    ),
    "cohere2 with a window": Family(
        Cohere2Config(**SIZES, sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
        Cohere2Attention,
        Cohere2RotaryEmbedding,
        {"sliding_window": 4},
        {"apply_rotary_pos_emb": apply_rotary.apply_rotary_pos_emb_interleaved_float32},
        window=4,
    ),
    "cohere2 without rope": Family(
        Cohere2Config(**SIZES, sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
        Cohere2Attention,
        Cohere2RotaryEmbedding,
        {"rope": False},
        layer=1,
    ),
    "phi": Family(
        PhiConfig(**SIZES, partial_rotary_factor=0.5, qk_layernorm=True),
        PhiAttention,
        PhiRotaryEmbedding,
        {
            **BIASES,
            "attention_out_bias": True,
            "partial_rotary": True,
            "rope_parameters": PARTIAL,
            "qk_norm": "head",
            "qk_norm_eps": 1e-5,
        },
        {"apply_rotary_pos_emb": apply_partial_rotary_pos_emb, "QKNorm": nn.LayerNorm},
        names={"dense": "o_proj", "q_layernorm": "q_norm", "k_layernorm": "k_norm"},
    ),
}


def both_outputs(family: Family, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    config = component_config(**family.facts)
    original = perturb(family.attention(family.config, layer_idx=family.layer)).to(dtype)
    ours = Attention(config, layer_idx=family.layer).eval().to(dtype)
    copy_weights(original, ours, family.names)
    states = hidden_states(config).to(dtype)
    mask = causal_mask(dtype, family.window)
    positions = torch.arange(LENGTH)[None]
    tables = RotaryEmbedding(config)(states, positions) if config.rope else None
    return (
        ours(states, tables, mask)[0],
        original(states, family.rotary(family.config)(states, positions), mask)[0],
    )


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_attention_equals_the_library_in_float32(family, monkeypatch):
    fill_slots(monkeypatch, attention, **family.slots)
    assert_float32_close(*both_outputs(family, torch.float32))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_attention_equals_the_library_bit_for_bit_in_bfloat16(family, monkeypatch):
    fill_slots(monkeypatch, attention, **family.slots)
    assert torch.equal(*both_outputs(family, torch.bfloat16))


def load_gpt2(original: nn.Module, ours: nn.Module, hidden_size: int) -> None:
    """GPT-2 keeps one transposed matrix for queries, keys and values."""
    state = {"o_proj.weight": original.c_proj.weight.T, "o_proj.bias": original.c_proj.bias}
    weights, biases = (tensor.split(hidden_size, -1) for tensor in (original.c_attn.weight, original.c_attn.bias))
    for name, weight, bias in zip("qkv", weights, biases, strict=True):
        state |= {f"{name}_proj.weight": weight.T, f"{name}_proj.bias": bias}
    ours.load_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_equals_gpt2(dtype):
    original_config = GPT2Config(n_embd=32, n_head=4, n_layer=1, n_positions=64, attn_implementation="eager")
    original = perturb(GPT2Attention(original_config, layer_idx=0)).to(dtype)
    config = component_config(num_key_value_heads=4, rope=False, attention_out_bias=True, **BIASES)
    ours = Attention(config, layer_idx=0).eval().to(dtype)
    load_gpt2(original, ours, config.hidden_size)
    states, mask = hidden_states(config).to(dtype), causal_mask(dtype)
    output, original_output = ours(states, None, mask)[0], original(states, attention_mask=mask)[0]
    if dtype is torch.float32:
        assert_float32_close(output, original_output)
    else:
        assert torch.equal(output, original_output)


@pytest.mark.parametrize(
    ("facts", "rotary_width"),
    [({}, 8), ({"rope": False}, 0), ({"sliding_window": 3}, 8), ({"attention_multiplier": 0.7}, 8)],
    ids=["rope", "no rope", "window", "scale"],
)
def test_attention_equals_a_loop_over_queries(facts, rotary_width):
    config = cached_config(**facts)
    module = perturb(Attention(config, layer_idx=0))
    output = decode(module, config, [LENGTH], None)[1]
    torch.testing.assert_close(
        output, references.attention(module, hidden_states(config)[1], rotary_width), rtol=1e-4, atol=1e-4
    )


CACHED = {
    "plain": {},
    "no rope": {"rope": False},
    "window": {"sliding_window": 4},
    "head norm": {"qk_norm": "head"},
    "full norm": {"qk_norm": "full"},
}


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("facts", CACHED.values(), ids=CACHED)
def test_prefill_equals_step_by_step(facts, kind):
    config = cached_config(**facts)
    module = perturb(Attention(config, layer_idx=0))
    whole = decode(module, config, [LENGTH], None)
    stepwise = decode(module, config, [1] * LENGTH, new_cache(kind, config))
    in_chunks = decode(module, config, [5, 1, 3, 2], new_cache(kind, config))
    # The first row's two pad tokens see nothing and mean nothing
    for output in (stepwise, in_chunks):
        torch.testing.assert_close(output[0, 2:], whole[0, 2:], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output[1], whole[1], rtol=1e-4, atol=1e-5)


FACTS = {
    "query_bias": (False, True),
    "attention_out_bias": (False, True),
    "qk_norm": (None, "head", "full"),
    "rope": (False, True),
    "sliding_window": (None, 4),
    "attention_multiplier": (None, 0.3),
}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_every_combination_of_facts_runs_forward_and_backward(implementation):
    for values in product(*FACTS.values()):
        facts = dict(zip(FACTS, values, strict=True))
        config = cached_config(attn_implementation=implementation, **facts)
        module = perturb(Attention(config, layer_idx=0)).train()
        decode(module, config, [LENGTH], None).square().sum().backward()
        assert all(torch.isfinite(weight.grad).all() for weight in module.parameters()), facts


@pytest.mark.parametrize(
    "facts", [{"sliding_window": 3}, {"attention_multiplier": 0.1}, {"qk_norm": "head"}, {"rope": False}]
)
def test_each_fact_changes_the_output(facts):
    plain, changed = cached_config(), cached_config(**facts)
    module, other = perturb(Attention(plain, 0)), Attention(changed, 0).eval()
    other.load_state_dict({**other.state_dict(), **module.state_dict()})
    difference = decode(module, plain, [LENGTH], None) - decode(other, changed, [LENGTH], None)
    assert difference.abs().max() > 1e-3


def test_sizes_may_differ_between_layers():
    overrides = {0: {"num_key_value_heads": 1}, 1: {"num_key_value_heads": 4, "head_dim": 16}}
    config = component_config(per_layer_config=overrides)
    modules = [Attention(config, layer_idx) for layer_idx in (0, 1)]
    assert [module.k_proj.weight.shape for module in modules] == [(8, 32), (64, 32)]
    assert [module.num_key_value_groups for module in modules] == [4, 1]


def test_dropout_acts_in_training_only():
    config = cached_config(attention_dropout=0.5)
    module = perturb(Attention(config, layer_idx=0))
    assert torch.equal(decode(module, config, [LENGTH], None), decode(module, config, [LENGTH], None))
    module.train()
    assert not torch.equal(decode(module, config, [LENGTH], None), decode(module, config, [LENGTH], None))
