"""RWKV."""

from tests.components.cases.building import FLAG, Case, recurrent_inputs, untaken

CASES = (
    Case(
        "rwkv",
        "TimeMix",
        recurrent_inputs,
        {"shared_module": FLAG},
        dropped=untaken,
        config=lambda facts: {"rwkv_size": 24, "rwkv_chunk_size": 4},
        differing={"rwkv_size": 40, "rwkv_chunk_size": 3},
    ),
    Case(
        "channel_mix",
        "ChannelMix",
        recurrent_inputs,
        {"shared_module": FLAG, "first_shift_state": (0, 2)},
        dropped=untaken,
        differing={"intermediate_size": 80},
    ),
)
