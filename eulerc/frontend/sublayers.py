"""Templates with one sublayer: what else they may say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from eulerc.frontend.norm_places import SUBLAYERS, Place
from eulerc.ir.context import Report
from eulerc.ir.core import Op
from eulerc.ir.ops.no_sublayer import is_none
from eulerc.ir.span import Span

FACTORS = ("scaling", "skip_scaling")
"""Keys of `residual` that may be said of each sublayer."""


def check_sublayers(report: Report, places: Mapping[str, Place], ops: tuple[Op, ...]) -> None:
    """A template has a sublayer, two where they are parallel, and says nothing of one that it has not.

    `ops` are mixer, feed-forward, norms and wiring.
    """
    missing = [axis for axis, op in zip(SUBLAYERS, ops[:2], strict=True) if is_none(op)]
    if len(missing) == len(SUBLAYERS):
        report.error(
            "E0726",
            "a template with neither mixer nor feed-forward",
            ops[1].span,
            "nothing is left of the layer",
            secondary=((ops[0].span, "no mixer, set here"),),
            help="give one of them another type",
        )
        return
    for axis in missing:
        _check_missing(report, axis, places, ops)


def _check_missing(report: Report, axis: str, places: Mapping[str, Place], ops: tuple[Op, ...]) -> None:
    gone = ((ops[SUBLAYERS.index(axis)].span, f"no {axis}, set here"),)
    wiring = ops[-1]
    if wiring["residual"] == "parallel":
        report.error(
            "E0727",
            "a parallel residual with one sublayer",
            wiring.where("residual"),
            "nothing stands beside it",
            secondary=gone,
            help="set `type: sequential`",
        )
    for what, span in _said(axis, places, wiring):
        report.error(
            "E0728",
            f"{what} in a template without {axis}",
            span,
            f"there is no {axis} for it",
            secondary=gone,
            help="take it out",
        )


def _said(axis: str, places: Mapping[str, Place], wiring: Op) -> Iterator[tuple[str, Span]]:
    """What a template says of one sublayer alone, and where."""
    if axis in places:
        yield f"norm.{axis}", places[axis][1].span
    for key in FACTORS:
        if f"{key}.{axis}" in wiring.spans:
            yield f"residual.{key}.{axis}", wiring.spans[f"{key}.{axis}"]
