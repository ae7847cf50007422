"""Layers that learn within a sequence."""

from __future__ import annotations

from tests.components.cases.building import FLAG, Case, Facts, recurrent_inputs, untaken

SIZES = {
    "ttt_inner_size": 12,
    "ttt_inner_lr": 0.1,
    "ttt_inner_steps": 2,
    "ttt_mini_batch_size": 4,
    "ttt_norm_eps": 1e-5,
    "ttt_inner_beta_1": 0.9,
    "ttt_inner_beta_2": 0.95,
    "ttt_inner_eps": 0.01,
    "ttt_inner_weight_decay": 0.1,
    "number_of_conv_states": 9,
}


def inner_model(facts: Facts) -> dict[str, tuple[str, str]]:
    return {"InnerModel": ("ttt_models", "InnerMLP" if facts["inner_mlp"] else "InnerLinear")}


CASES = (
    Case(
        "ttt",
        "TTTMixer",
        recurrent_inputs,
        dict.fromkeys(("inner_mlp", "inner_adamw", "shared_module"), FLAG),
        filled=inner_model,
        dropped=untaken,
        config=lambda facts: dict(SIZES),
        differing={"ttt_inner_lr": 0.05, "ttt_inner_steps": 1, "ttt_mini_batch_size": 3, "num_attention_heads": 2},
    ),
)
WITHIN = ("InnerNorm", "InnerMLP", "InnerLinear")
