"""RG-LRU."""

from typing import Any

from transformers import PreTrainedConfig

from tests.components.cases.building import FLAG, Case, recurrent_inputs, untaken


def placed_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    inputs = recurrent_inputs(config)
    return {**inputs, "position_ids": (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)}


CASES = (
    Case(
        "rg_lru",
        "RGLRU",
        placed_inputs,
        {"lru_bias": FLAG, "shared_module": FLAG},
        dropped=untaken,
        config=lambda facts: {"lru_width": 24, "lru_num_blocks": 3, "lru_conv_kernel": 4, "lru_act": "silu"},
        differing={"lru_width": 20, "lru_num_blocks": 2, "lru_conv_kernel": 3},
    ),
)
