"""mLSTM."""

from hypothesis import strategies as st

DRAWN = {
    "qk_dim_factor": st.sampled_from([0.5, 1]),
    "v_dim_factor": st.sampled_from([0.5, 1, 2]),
    "gate_softcap": st.sampled_from([None, 5.0, 20]),
}
