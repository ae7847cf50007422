"""Gated delta networks and Kimi delta attention."""

from typing import Any

from tests.components.cases.building import FLAG, RMS_NORMS, Case, recurrent_inputs, untaken

FACTS: dict[str, tuple[Any, ...]] = {
    "negative_eigenvalues": FLAG,
    "decay_in_float32": FLAG,
    "linear_gate": ("silu", "sigmoid"),
    "shared_module": FLAG,
}
CASES = (
    Case(
        "gated_delta_net",
        "GatedDeltaNet",
        recurrent_inputs,
        FACTS,
        slots={"StateNorm": RMS_NORMS},
        dropped=untaken,
        differing={"linear_num_value_heads": 2, "linear_key_head_dim": 6, "linear_conv_kernel_dim": 3},
    ),
    Case(
        "kda",
        "KimiDeltaNet",
        recurrent_inputs,
        FACTS,
        slots={"StateNorm": RMS_NORMS},
        dropped=untaken,
        differing={"linear_num_key_heads": 4, "linear_value_head_dim": 6, "linear_rank": 3, "linear_chunk_size": 2},
    ),
)
