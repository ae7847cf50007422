"""RWKV."""

from hypothesis import strategies as st

DRAWN = {"inner_size": st.sampled_from([24, 40])}
