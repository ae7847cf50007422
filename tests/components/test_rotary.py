"""Rotary tables and rotations equal the library's; the rotations do what the equation says."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedConfig
from transformers.models.cohere2.modeling_cohere2 import Cohere2RotaryEmbedding
from transformers.models.cohere2.modeling_cohere2 import apply_rotary_pos_emb as cohere2_rotation
from transformers.models.deepseek_v3.modeling_deepseek_v3 import apply_rotary_pos_emb_interleave
from transformers.models.gemma3.configuration_gemma3 import Gemma3TextConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.glm.modeling_glm import GlmRotaryEmbedding
from transformers.models.glm.modeling_glm import apply_rotary_pos_emb as glm_rotation
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as llama_rotation
from transformers.models.olmo2.modeling_olmo2 import Olmo2RotaryEmbedding
from transformers.models.olmo2.modeling_olmo2 import apply_rotary_pos_emb as olmo2_rotation
from transformers.models.phi.modeling_phi import PhiRotaryEmbedding

from eulerc.backends.hf.components import apply_partial_rotary, apply_rotary
from eulerc.backends.hf.components.nested_rotary_embedding import NestedRotaryEmbedding
from eulerc.backends.hf.components.rotary_embedding import RotaryEmbedding
from tests.components import references
from tests.components.harness import component_config, fill_slots

POSITIONS = torch.tensor([[0, 1, 2, 30, 5], [7, 63, 9, 10, 11]])
SCALED_ROPES = [
    {"rope_type": "default", "rope_theta": 5e5},
    {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
    {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "mscale": 0.7,
        "mscale_all_dim": 1.0,
    },
    {
        "rope_type": "llama3",
        "rope_theta": 1e4,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0, 1.1, 1.2, 1.3],
        "long_factor": [2.0, 2.1, 2.2, 2.3],
        "factor": 4.0,
        "original_max_position_embeddings": 16,
    },
]
PARTIAL = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}


def states(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(2, 4, 5, 8, generator=generator)
    key = torch.randn(2, 2, 5, 8, generator=generator)
    return query.to(dtype), key.to(dtype)


def assert_same_tables(ours: torch.nn.Module, theirs: torch.nn.Module, dtype: torch.dtype) -> None:
    probe = torch.zeros(1, dtype=dtype)
    for our_table, their_table in zip(ours(probe, POSITIONS), theirs(probe, POSITIONS), strict=True):
        assert our_table.dtype == their_table.dtype
        assert torch.equal(our_table, their_table)


@pytest.mark.parametrize("rope", SCALED_ROPES, ids=[rope["rope_type"] for rope in SCALED_ROPES])
def test_table_equals_the_library_for_every_scaling(rope):
    config = component_config(rope_parameters=rope)
    assert_same_tables(RotaryEmbedding(config), LlamaRotaryEmbedding(config), torch.bfloat16)


def test_table_stays_in_float32_where_asked():
    config = component_config(rope_in_float32=True)
    assert_same_tables(RotaryEmbedding(config), Olmo2RotaryEmbedding(config), torch.bfloat16)


def test_partial_table_is_as_wide_as_the_rotated_dims():
    config = component_config(partial_rotary=True, rope_parameters=PARTIAL)
    assert_same_tables(RotaryEmbedding(config), PhiRotaryEmbedding(config), torch.bfloat16)
    assert RotaryEmbedding(config)(torch.zeros(1), POSITIONS)[0].shape == (2, 5, 4)


def test_nested_tables_equal_the_library():
    ropes = {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    original = Gemma3TextConfig(head_dim=8, num_hidden_layers=6, rope_parameters=ropes)
    config = nested_config(ropes, layer_types=original.layer_types, num_hidden_layers=6)
    ours, theirs = NestedRotaryEmbedding(config), Gemma3RotaryEmbedding(original)
    for label in ropes:
        for our_table, their_table in zip(
            ours(torch.zeros(1), POSITIONS, label), theirs(torch.zeros(1), POSITIONS, label), strict=True
        ):
            assert torch.equal(our_table, their_table)


def nested_config(ropes: dict[str, dict[str, object]], **decided: object) -> PreTrainedConfig:
    labels = {"rope_layers": None, "_rope_type_labels": list(ropes)}
    return component_config(**{**labels, "rope_parameters": ropes, **decided})


def test_nested_tables_take_the_width_of_a_layer_that_uses_them():
    ropes = {
        "wide": {"rope_type": "default", "rope_theta": 1e4},
        "narrow": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
    }
    head_dims = {0: {"head_dim": 4}, 1: {"head_dim": 16}}
    config = nested_config(ropes, rope_layers={"wide": 1, "narrow": 0}, per_layer_config=head_dims)
    rotary = NestedRotaryEmbedding(config)
    widths = {label: rotary(torch.zeros(1), POSITIONS, label)[0].shape[-1] for label in rotary.rope_type}
    assert widths == {"wide": 16, "narrow": 4}


def test_nested_tables_may_differ_in_what_they_rotate():
    ropes = {"full_attention": PARTIAL, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    rotary = NestedRotaryEmbedding(nested_config(ropes, partial_rotary=True))
    widths = [rotary(torch.zeros(1), POSITIONS, label)[0].shape[-1] for label in rotary.rope_type]
    assert widths == [4, 8]


@pytest.mark.parametrize("in_float32", [False, True])
def test_nested_tables_keep_the_dtype_asked_for(in_float32):
    ropes = {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
    rotary = NestedRotaryEmbedding(nested_config(ropes, rope_in_float32=in_float32))
    cos, sin = rotary(torch.zeros(1, dtype=torch.bfloat16), POSITIONS, "full_attention")
    assert cos.dtype == sin.dtype == (torch.float32 if in_float32 else torch.bfloat16)


ROTATIONS = {
    "llama": (apply_rotary.apply_rotary_pos_emb, llama_rotation, LlamaRotaryEmbedding, {}),
    "olmo2": (
        apply_rotary.apply_rotary_pos_emb_float32,
        olmo2_rotation,
        Olmo2RotaryEmbedding,
        {"rope_in_float32": True},
    ),
    "cohere2": (apply_rotary.apply_rotary_pos_emb_interleaved_float32, cohere2_rotation, Cohere2RotaryEmbedding, {}),
    "glm": (apply_rotary.apply_rotary_pos_emb_interleaved, glm_rotation, GlmRotaryEmbedding, {}),
    "deepseek_v3": (
        apply_rotary.apply_rotary_pos_emb_deinterleaved,
        apply_rotary_pos_emb_interleave,
        LlamaRotaryEmbedding,
        {},
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ROTATIONS)
def test_rotation_equals_the_library_bit_for_bit(family, dtype):
    ours, theirs, their_table, facts = ROTATIONS[family]
    config = component_config(**facts)
    query, key = states(dtype)
    our_result = ours(query, key, *RotaryEmbedding(config)(query, POSITIONS))
    their_result = theirs(query, key, *their_table(config)(query, POSITIONS))
    for our_states, their_states in zip(our_result, their_result, strict=True):
        assert our_states.dtype == dtype
        assert torch.equal(our_states, their_states)


def test_partial_rotation_equals_the_library_bit_for_bit(monkeypatch):
    rotation = apply_rotary.apply_rotary_pos_emb_interleaved
    fill_slots(monkeypatch, apply_partial_rotary, apply_rotary_pos_emb=rotation)
    config = component_config(partial_rotary=True, rope_parameters=PARTIAL)
    query, key = states(torch.bfloat16)
    ours = apply_partial_rotary.apply_partial_rotary_pos_emb(query, key, *RotaryEmbedding(config)(query, POSITIONS))
    theirs = glm_rotation(query, key, *GlmRotaryEmbedding(config)(query, POSITIONS))
    for our_states, their_states in zip(ours, theirs, strict=True):
        assert torch.equal(our_states, their_states)


@pytest.mark.parametrize("width", [4, 8])
def test_rotation_turns_each_pair_by_its_angle(width):
    rope = {**PARTIAL, "partial_rotary_factor": width / 8}
    tables = RotaryEmbedding(component_config(partial_rotary=True, rope_parameters=rope))
    query, key = states(torch.float32)
    rotated, _ = apply_partial_rotary.apply_partial_rotary_pos_emb(query, key, *tables(query, torch.arange(5)[None]))
    torch.testing.assert_close(rotated[0], references.rotate(query[0], 1e4, width), rtol=1e-5, atol=1e-5)


def test_deinterleaved_rotation_gives_the_scores_of_the_interleaved_one():
    query, key = states(torch.float32)
    tables = RotaryEmbedding(component_config())(query, POSITIONS)
    scores = [
        rotated_query[:, ::2] @ rotated_key.transpose(2, 3)
        for rotated_query, rotated_key in (
            apply_rotary.apply_rotary_pos_emb_interleaved(query, key, *tables),
            apply_rotary.apply_rotary_pos_emb_deinterleaved(query, key, *tables),
        )
    ]
    torch.testing.assert_close(*scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["", "_float32"])
def test_rotating_neighbours_by_their_own_tables_is_the_interleaved_rotation_to_the_bit(kind, dtype):
    query, key = states(dtype)
    halves = RotaryEmbedding(component_config())(query, POSITIONS)
    twice = RotaryEmbedding(component_config(rope_neighbours=True))(query, POSITIONS)
    found = getattr(apply_rotary, f"apply_rotary_pos_emb_neighbours{kind}")(query, key, *twice)
    wanted = getattr(apply_rotary, f"apply_rotary_pos_emb_interleaved{kind}")(query, key, *halves)
    assert all(map(torch.equal, found, wanted))
