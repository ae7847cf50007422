"""The norms of a template: of all its sublayers, and of one alone."""

from __future__ import annotations

from collections.abc import Mapping

from eulerc.frontend import tree
from eulerc.frontend.schema import plain
from eulerc.ir.context import Report
from eulerc.ir.core import Op
from eulerc.ir.definition import definition
from eulerc.ir.ops.wiring import shares_norm

Place = tuple[tree.Entry | None, tree.Node]
"""Where norms stand, and which."""

SUBLAYERS = ("mixer", "ffn")


def norm_places(node: tree.Node) -> dict[str, Place]:
    """The norms of a template: that of all sublayers under `norm`, and those of `mixer`, `ffn`, `output` that differ.

    What these say is laid over what holds for all; of another kind of norm only the position holds.
    """
    position, general = without(node, "position")
    own = {}
    for axis in (*SUBLAYERS, "output"):
        entry, general = without(general, axis)
        if entry is not None:
            own[axis] = entry.value
    places: dict[str, Place] = {"norm": (position, general)}
    for axis, over in own.items():
        own_position, rest = without(over, "position") if axis in SUBLAYERS else (None, over)
        if isinstance(rest, tree.Mapping) and isinstance(general, tree.Mapping) and rest.entry("type") is None:
            rest = tree.merge(tree.Mapping(general.entries, over.span), rest)
        places[axis] = (own_position, rest)
    return places


def without(node: tree.Node, key: str) -> tuple[tree.Entry | None, tree.Node]:
    """A mapping's entry of that key, and the mapping without it."""
    if not isinstance(node, tree.Mapping):
        return None, node
    return node.entry(key), tree.Mapping(tuple(entry for entry in node if entry.key != key), node.span)


def check_norms(report: Report, places: Mapping[str, Place], ops: tuple[Op, ...]) -> None:
    """Rules between the norms of a template and its wiring; `ops` are mixer, feed-forward, norms and wiring."""
    norms = _by_place(ops)
    _check_places(report, places, ops[-1])
    _check_general(report, places)
    _check_output(report, norms, ops[-1])
    _check_sizes(report, [norm for norm in norms.values() if norm.name != "norm.none"])
    _check_skip(report, norms, ops[-1])


def place_of_ffn(ops: tuple[Op, ...]) -> str:
    """Where the feed-forward's norms stand; `none` where it has none."""
    norms, wiring = _by_place(ops), ops[-1]
    is_bare = norms.get("ffn", norms["norm"]).name == "norm.none"
    return "none" if is_bare else str(wiring["ffn_position"] or wiring["position"])


def _by_place(ops: tuple[Op, ...]) -> dict[str, Op]:
    return {str(op.get("sublayer", "norm")): op for op in ops if definition(op.name).axis == "norm"}


def _check_general(report: Report, places: Mapping[str, Place]) -> None:
    """What `norm` says of all sublayers is read by one at least."""
    position, general = places["norm"]
    own = [places[axis] for axis in SUBLAYERS if axis in places]
    if len(own) < 2 or not isinstance(general, tree.Mapping):
        return
    others = [node for name, (_, node) in places.items() if name != "norm"]
    read = {id(entry) for node in others if isinstance(node, tree.Mapping) for entry in node}
    unread = [entry for entry in general if id(entry) not in read]
    if position is not None and all(each is not None for each, _ in own):
        unread.append(position)
    for entry in unread:
        report.error(
            "E0446",
            f"norm.{entry.key} is read by no sublayer",
            entry.key_span,
            "mixer and ffn have their own",
            help=f"take {entry.key} out",
        )


def _check_sizes(report: Report, norms: list[Op]) -> None:
    """A number of a layer's norms stands in one config field; eps alone may have one for each sublayer."""
    for index, norm in enumerate(norms):
        for name, field in definition(norm.name).fields.items():
            others = [op for op in norms[:index] if op.name == norm.name and op[name] != norm[name]]
            if field.role == "size" and name != "eps" and others:
                report.error(
                    "E0456",
                    f"{name} is {others[0][name]} and {norm[name]} in norms of one layer",
                    norm.where(name),
                    "one field of the config holds it for the layer",
                    secondary=((others[0].where(name), f"{others[0][name]} here"),),
                    help=f"give both the same {name}",
                )


def _check_output(report: Report, norms: Mapping[str, Op], wiring: Op) -> None:
    """A norm of outputs differs from one before the sublayer, so there must be both."""
    positions = {wiring[f"{axis}_position"] or wiring["position"] for axis in SUBLAYERS}
    if "output" in norms and norms["output"].name == "norm.none":
        report.error(
            "E0458",
            "no norm on outputs, where norms stand around sublayers",
            norms["output"].span,
            "nothing stands behind the sublayers then",
            help="set `position: pre`",
        )
    elif "output" in norms and "sandwich" not in positions:
        report.error(
            "E0458",
            "norm.output without norms around a sublayer",
            norms["output"].span,
            "no sublayer has norms before and behind it",
            help="set `position: sandwich`, or say it of the norm itself",
        )


def _check_skip(report: Report, norms: Mapping[str, Op], wiring: Op) -> None:
    """What is taken behind a norm needs that norm."""
    kinds = {norms.get(axis, norms["norm"]).name for axis in ("mixer", "ffn")}
    if wiring["skip"] == "normed" and "norm.none" in kinds:
        report.error(
            "E0443",
            "skip normed without the norm that it takes",
            wiring.where("skip"),
            "a sublayer has no norm",
            help="give both sublayers a norm, or set `skip: stream`",
        )


def _check_places(report: Report, places: Mapping[str, Place], wiring: Op) -> None:
    """A position needs norms; sublayers that share a norm have none of their own."""
    for place, (position, node) in places.items():
        word = node.get("type") if isinstance(node, tree.Mapping) else None
        if position is not None and word is not None and plain(word) == "none":
            report.error(
                "E0442",
                "a position for norms that are none",
                position.value.span,
                "nothing stands there",
                secondary=((word.span, "no norm, set here"),),
                help="take position out",
            )
        if place in SUBLAYERS and shares_norm(wiring):
            report.error(
                "E0445",
                f"norm.{place} where parallel sublayers share a norm",
                node.span,
                "there is one norm for both",
                help="set `shared_norm: false` under residual",
            )
