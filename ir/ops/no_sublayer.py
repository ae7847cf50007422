"""`mixer.none` and `ffn.none`: a layer with one sublayer alone."""

from __future__ import annotations

from eulerc.ir.core import Op
from eulerc.ir.definition import Definition, register


@register
class NoMixer(Definition):
    """No mixer: the layer is a feed-forward network alone, and keeps no state (Nemotron-H)."""

    name = "mixer.none"
    axis, yaml_type = "mixer", "none"
    stages = frozenset({"arch"})


@register
class NoFeedForward(Definition):
    """No feed-forward network: the layer is a mixer alone (Nemotron-H)."""

    name = "ffn.none"
    axis, yaml_type = "ffn", "none"
    stages = frozenset({"arch"})


def is_none(op: Op) -> bool:
    """Whether an op stands for a sublayer that is not there."""
    return op.name in (NoMixer.name, NoFeedForward.name)
