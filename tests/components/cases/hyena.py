"""Hyena."""

from typing import Any

from tests.components.cases.building import FLAG, Case, Facts, recurrent_inputs, untaken


def sizes(facts: Facts) -> dict[str, Any]:
    return {
        "hyena_depth": 2,
        "hyena_d_conv": 3,
        "hyena_filter_size": 6,
        "hyena_filter_layers": 2,
        "hyena_filter_features": 3,
        "hyena_filter_frequency": 2.0,
        "hyena_filter_decay": 3.0,
    }


CASES = (
    Case(
        "hyena",
        "Hyena",
        recurrent_inputs,
        dict.fromkeys(("hyena_window", "shared_module"), FLAG),
        dropped=untaken,
        config=sizes,
        differing={"hyena_depth": 3, "hyena_filter_size": 5, "hyena_filter_layers": 1, "hyena_filter_decay": 1.0},
    ),
)
WITHIN = ("Convolution", "Filter")
