"""Streams of layers."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from tests.components.cases.building import (
    FLAG,
    PARTIAL_ROTATION,
    ROTATIONS,
    Case,
    attention_inputs,
    untaken,
)
from tests.components.harness import hidden_states


def crossing_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    return {**attention_inputs(config), "key_value_states": hidden_states(config).flip(-1)}


CASES = (
    Case(
        "cross_attention",
        "CrossAttention",
        crossing_inputs,
        dict.fromkeys(("rope", "shared_module"), FLAG),
        slots={"apply_rotary_pos_emb": (*ROTATIONS, PARTIAL_ROTATION)},
        filled=lambda facts: {"eager_attention_forward": ("eager_attention", "eager_attention_forward")},
        dropped=untaken,
        differing={"num_attention_heads": 2},
    ),
)
