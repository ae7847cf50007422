"""Colours: of the kinds of blocks, light enough to tell apart and dark enough for white letters; of the boxes."""

from __future__ import annotations

KINDS = ("#2f6db5", "#b85c00", "#2e7d4f", "#7b4fa6", "#b23b4b", "#1f7a83", "#7a5c3a", "#5b6672")

BOXES = {
    "mixer": ("#e7f0fb", "#5b8cc4"),
    "ffn": ("#fdf0dc", "#cf9a45"),
    "norm": ("#f0f2f5", "#9aa5b1"),
    "": ("#eaf5ec", "#6aa576"),
}
"""Fill and edge by the axis that an op is a choice on."""


def color_of(index: int) -> str:
    """The colour of a kind; they repeat after eight, where the letters go on."""
    return KINDS[index % len(KINDS)]
