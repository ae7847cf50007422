"""Retention."""

from hypothesis import strategies as st

DRAWN = {"value_factor": st.sampled_from([1, 2])}
