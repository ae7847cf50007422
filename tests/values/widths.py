"""Projections that change the width of the stream."""

NEEDED = {
    ("shape_change", "kernel"): {
        ("layer_templates", "block", "shape_change"): {"d_out": 48, "projection": "conv1d"},
        ("head", "tie_weights"): False,
    }
}
