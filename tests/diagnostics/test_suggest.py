"""Suggestions find what was meant, and keep quiet when they cannot know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eulerc.diagnostics.suggest import FOREIGN_NAMES, closest, did_you_mean, foreign

KEYS = ("n_heads", "n_kv_heads", "d_model", "max_seq_len", "vocab_size", "window", "qkv_bias", "top_k", "experts")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("n_head", "n_heads"),
        ("n_haeds", "n_heads"),
        ("N-Heads", "n_heads"),
        ("nheads", "n_heads"),
        ("vocabsize", "vocab_size"),
        ("dmodle", "d_model"),
        ("windows", "window"),
        ("learning_rate", None),
        ("x", None),
        ("", None),
        ("n" * 5000, None),
    ],
)
def test_closest_by_spelling(name: str, near: str | None) -> None:
    assert closest(name, KEYS) == near


def test_of_equally_near_names_the_first_is_suggested() -> None:
    assert closest("abc", ["abd", "abe"]) == "abd"


@given(st.sampled_from(KEYS))
def test_a_name_is_nearest_to_itself(name: str) -> None:
    assert closest(name, KEYS) == name


@given(st.text(max_size=80), st.lists(st.text(max_size=20), max_size=5))
def test_suggestions_are_candidates(name: str, candidates: list[str]) -> None:
    assert closest(name, candidates) in (None, *candidates)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("num_key_value_heads", "n_kv_heads"),
        ("num_attention_heads", "n_heads"),
        ("n_head", "n_heads"),
        ("hidden_size", "d_model"),
        ("n_embd", "d_model"),
        ("max_position_embeddings", "max_seq_len"),
        ("n_positions", "max_seq_len"),
        ("rms_norm_eps", "norm_eps"),
        ("layer_norm_epsilon", "norm_eps"),
        ("ffn_dim", "intermediate_size"),
        ("n_inner", "intermediate_size"),
        ("sliding_window", "window"),
        ("attention_bias", "qkv_bias"),
        ("kv_lora_rank", "kv_rank"),
        ("n_routed_experts", "experts"),
        ("num_local_experts", "experts"),
        ("num_experts_per_tok", "top_k"),
        ("n_shared_experts", "shared_experts"),
        ("rope_parameters", "rope_scaling"),
        ("num_query_groups", "n_kv_heads"),
        ("kv_heads", "n_kv_heads"),
        ("d_model", None),
    ],
)
def test_names_of_other_projects(name: str, ours: str | None) -> None:
    assert foreign(name) == ours


def test_no_foreign_name_is_one_of_ours() -> None:
    assert not set(FOREIGN_NAMES) & set(FOREIGN_NAMES.values())


@pytest.mark.parametrize(
    ("name", "help"),
    [
        ("num_key_value_heads", "`num_key_value_heads` is called `n_kv_heads` here"),
        ("num_hidden_layers", "the number of layers is the sum of `repeat` over layer_schedule"),
        ("n_layer", "the number of layers is the sum of `repeat` over layer_schedule"),
        ("hiden_size", None),
        ("n_kv_head", "did you mean `n_kv_heads`?"),
        ("rms_norm_eps", "`rms_norm_eps` is called `norm_eps` in this language, which is no key of this block"),
    ],
)
def test_help_for_an_unknown_key(name: str, help: str | None) -> None:
    assert did_you_mean(name, KEYS) == help
