"""Hyena."""

from hypothesis import strategies as st

DRAWN = {
    "depth": st.sampled_from([1, 2, 3]),
    "filter_hidden": st.sampled_from([4, 8]),
    "filter_decay": st.sampled_from([0, 0.5, 4]),
    "filter_features": st.sampled_from([1, 3]),
    "filter_layers": st.sampled_from([1, 2]),
    # Rounding grows by it in every layer
    "filter_frequency": st.sampled_from([0.5, 1]),
}
