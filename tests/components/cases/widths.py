"""Convolutions that change the width of the stream."""

from __future__ import annotations

from tests.components.cases.building import FLAG, Case, recurrent_inputs

CASES = (
    Case(
        "conv_shape_change",
        "ConvShapeChange",
        recurrent_inputs,
        {"shared_module": FLAG},
        dropped=lambda facts: set() if facts["shared_module"] else {"cache_slot"},
        config=lambda facts: {"output_size": 24, "shape_change_kernel": 3, "shape_change_state": 0},
        differing={"output_size": 20, "shape_change_kernel": 2},
    ),
)
