"""Factors within and around mixers."""

from hypothesis import strategies as st

DRAWN = {
    "input_scale": st.sampled_from([0.5, 1, 1.5]),
    "output_scale": st.sampled_from([0.7, 1.0, 2]),
    "multipliers": st.sampled_from([{"gate": 0.5}, {"b": 1.2, "c": 0.8, "dt": 0.5}, {"input": 2.0}]),
}
TRIED = {"multipliers": [{"gate": 0.5}]}
