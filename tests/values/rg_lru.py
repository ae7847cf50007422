"""RG-LRU."""

from hypothesis import strategies as st

DRAWN = {
    "width": st.sampled_from([48, 96]),
    "n_blocks": st.sampled_from([1, 2]),
}
TRIED = {"width": [96], "n_blocks": [2]}
