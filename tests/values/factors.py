"""Factors within and around mixers."""

from hypothesis import strategies as st

DRAWN = {"multipliers": st.sampled_from([{"gate": 0.5}, {"b": 1.2, "c": 0.8, "dt": 0.5}, {"input": 2.0}])}
TRIED = {"multipliers": [{"gate": 0.5}]}
