"""Layers in words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from eulerc.frontend.templates import ranges


def layers_text(layers: Sequence[int]) -> str:
    """`layers 0-2, 5`; of layers at a steady distance the first three and the last."""
    steps = {after - before for before, after in pairwise(layers)}
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if len(layers) > 4 and len(steps) == 1 and steps != {1}:
        return f"layers {layers[0]}, {layers[1]}, {layers[2]}, ..., {layers[-1]}"
    return f"layers {ranges(list(layers))}"
