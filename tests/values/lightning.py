"""Lightning attention."""

from hypothesis import strategies as st

DRAWN = {"decay": st.sampled_from(["by_layer", "by_head", "none"])}
