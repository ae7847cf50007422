"""Hyper-connections."""

from hypothesis import strategies as st

from eulerc.ir.ops.hyper_connection import HYPER

STREAMED = ("layer_templates", "block", "residual", "type")

DRAWN = {
    "hyper": st.fixed_dictionaries(
        {"expand": st.integers(1, 3)},
        optional={
            "eps": st.sampled_from([1e-6, 0.01]),
            "norm_eps": st.sampled_from([1e-6, 0.01]),
            "collapse": st.sampled_from(sorted(HYPER["collapse"].kind.meanings)),
        },
    )
}
TRIED = {
    "hyper": [
        {"expand": 3},
        {"expand": 2, "mixing": "unconstrained"},
        {"expand": 2, "mixing": "learned_lowrank"},
        {"expand": 2, "mixing": "learned_lowrank", "rank": 2},
        {"expand": 2, "mixing": "learned_lowrank", "sinkhorn_iters": 3},
        {"expand": 2, "sinkhorn_iters": 5},
        {"expand": 2, "eps": 0.01},
        {"expand": 2, "norm_eps": 0.01},
        {"expand": 2, "collapse": "gated"},
    ]
}
NEEDED = {
    ("residual", "hyper"): {
        STREAMED: "hyper_connection",
        ("layer_templates", "block", "residual", "hyper"): {"expand": 2},
    }
}
