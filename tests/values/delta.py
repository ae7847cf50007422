"""Gated delta networks and Kimi delta attention."""

from hypothesis import strategies as st

DRAWN = {
    "n_v_heads": st.sampled_from([4, 8]),
    "v_head_dim": st.sampled_from([8, 12]),
    "rank": st.sampled_from([3, 8]),
}
TRIED = {"rank": [3, 8]}
