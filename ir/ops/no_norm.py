"""`norm.none`: no norm."""

from __future__ import annotations

from eulerc.ir.definition import Definition, register


@register
class NoNorm(Definition):
    """No norm: sublayers read the stream as it is (the first of ModernBERT's)."""

    name = "norm.none"
    portable = True
    axis, yaml_type = "norm", "none"
    stages = frozenset({"arch"})
