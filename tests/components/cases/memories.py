"""Memories, and the gate by which they meet a mixer."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedConfig

from tests.components.cases.building import FLAG, RMS_NORMS, Case, Facts, hidden_states, recurrent_inputs

FACTS = {
    "update_at_inference": FLAG,
    "memory_persistence": ("session", "per_query", "persistent"),
    "first_memory_state": (0, 3),
    "shared_module": FLAG,
}


def legal(facts: Facts) -> bool:
    """A memory that does not learn in use keeps nothing, and one in the checkpoint is that of one run."""
    if not facts["update_at_inference"]:
        return facts["memory_persistence"] == "session" and not (facts["first_memory_state"] or facts["shared_module"])
    return not (facts["shared_module"] and facts["memory_persistence"] == "persistent")


def dropped(facts: Facts) -> set[str]:
    """What a memory does not take that keeps nothing, or runs once."""
    if not facts["update_at_inference"]:
        return {"past_key_values", "cache_slot"}
    return set() if facts["shared_module"] else {"cache_slot"}


def gate_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    mixed = hidden_states(config)
    return {"mixed": mixed, "remembered": torch.roll(mixed, 1, dims=1)}


CASES = (
    Case(
        component="neural_memory",
        name="NeuralMemory",
        inputs=recurrent_inputs,
        facts=FACTS,
        legal=legal,
        dropped=dropped,
        differing={"memory_hidden_size": 8, "memory_chunk_size": 3, "memory_inner_lr": 0.2},
    ),
    Case(
        component="associative_memory",
        name="AssociativeMemory",
        inputs=recurrent_inputs,
        facts=FACTS,
        legal=legal,
        dropped=dropped,
        differing={"memory_hidden_size": 8, "memory_chunk_size": 3, "memory_inner_lr": 0.2},
    ),
    Case(
        component="retrieval_memory",
        name="RetrievalMemory",
        inputs=recurrent_inputs,
        facts=FACTS,
        legal=legal,
        dropped=dropped,
        differing={"memory_hidden_size": 8, "memory_slots": 5, "memory_top_k": 2},
    ),
    Case(
        component="memory_gate",
        name="MemoryGate",
        inputs=gate_inputs,
        slots={"GateNorm": RMS_NORMS},
        differing={"memory_norm_eps": 0.1},
    ),
)
