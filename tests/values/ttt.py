"""Layers that learn within a sequence."""

from hypothesis import strategies as st

# Rounding decides where steps of AdamW go whose gradients cancel: a large eps keeps them short
DRAWN = {
    "inner_model": st.sampled_from([{}, {"type": "linear"}, {"hidden": 12}, {"type": "mlp", "hidden": 20}]),
    "inner_lr": st.sampled_from([0.01, 0.1]),
    "inner_steps_per_token": st.integers(1, 2),
    "mini_batch_size": st.sampled_from([4, 8]),
    "inner_betas": st.just([0.8, 0.95]),
    "inner_eps": st.just(0.01),
    "inner_weight_decay": st.sampled_from([0, 0.1]),
}
TRIED = {"inner_model": [{"type": "linear"}], "inner_betas": [[0.8, 0.95]]}
NEEDED = {
    ("mixer", "ttt", name): {("layer_templates", "block", "mixer", "ttt", "inner_optimizer"): "adamw"}
    for name in ("inner_betas", "inner_eps", "inner_weight_decay")
}
