"""The branches of a mixer: mixers by name, and how their outputs are joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from eulerc.frontend import tree
from eulerc.frontend.branches import NAME
from eulerc.frontend.schema import plain
from eulerc.ir.context import UnreadError, Values
from eulerc.ir.core import Block, Op
from eulerc.ir.definition import definition
from eulerc.ir.numbers import HYBRID_KINDS, RECURRENT_KINDS, layer_kind
from eulerc.ir.ops.branched import SELECTOR_FIELDS

if TYPE_CHECKING:
    from eulerc.frontend.templates import TemplateReader


def branched_mixer(reader: TemplateReader, node: tree.Mapping) -> Op | None:
    """The op of a mixer of `type: branched`; None when an error was reported."""
    path = f"{reader.path}.mixer"
    outer = {entry.key: entry.value for entry in reader.reader.known_entries(node, ("type", "branched"), path)}
    block = outer.get("branched", tree.Mapping((), node.span))
    if not isinstance(block, tree.Mapping):
        reader.reader.wrong_kind(block, f"{path}.branched", "is not a mapping", "mapping")
        return None
    entries = reader.reader.known_entries(block, ("branches", "selector"), f"{path}.branched")
    inner = {entry.key: entry.value for entry in entries}
    found = inner.get("branches")
    if not isinstance(found, tree.Mapping) or len(found.entries) < 2:
        reader.report.error(
            "E0830",
            "a branched mixer without two branches",
            block.span if found is None else found.span,
            "needs two named mixers or more",
            help="add `branches: {near: {type: attention, ...}, far: {type: mamba}}`, or use one type alone",
        )
        return None
    branches = [_branch(reader, entry) for entry in found]
    selector = _selector(reader, inner.get("selector"), block, len(branches))
    ops = tuple(branch for branch in branches if branch is not None)
    if len(ops) < len(branches) or selector is None:
        return None
    _check_states(reader, ops)
    _check_caches(reader, ops)
    _check_numbers(reader, ops)
    return Op("mixer.branched", attributes=selector, body=Block(ops=ops), span=node.span)


def _branch(reader: TemplateReader, entry: tree.Entry) -> Op | None:
    node = entry.value
    if not NAME.fullmatch(entry.key) or len(entry.key) > 32:
        reader.report.error(
            "E0452",
            f"{entry.key!r} cannot name a branch",
            entry.key_span,
            "stands in the names of its weights",
            help="use lower-case words joined by _, like far_memory",
        )
        return None
    if isinstance(node, tree.Mapping):
        kind = node.get("type")
        if kind is not None and plain(kind) in ("branched", "none"):
            reader.report.error(
                "E0831",
                f"branch {entry.key} is of type {plain(kind)}",
                kind.span,
                "branches are mixers, and not nested",
                help="put its branches beside the others" if plain(kind) == "branched" else "take the branch out",
            )
            return None
    mixer = reader.part("mixer", node, None)
    if mixer is None:
        return None
    return Op("branch", symbol=entry.key, attributes={"input": "normed"}, body=Block(ops=(mixer,)), span=entry.key_span)


def _selector(reader: TemplateReader, node: tree.Node | None, block: tree.Mapping, count: int) -> dict[str, Any] | None:
    values = reader.reader.block(node, SELECTOR_FIELDS, f"{reader.path}.mixer.branched.selector", block.span)
    try:
        kind, top_k = values.value("type"), values.get("top_k")
    except UnreadError:
        return None
    _check_top_k(reader, values, kind, top_k, count)
    return {"selector": kind, "top_k": (top_k or 1) if kind == "top_k" else None}


def _check_top_k(reader: TemplateReader, values: Values, kind: str, top_k: int | None, count: int) -> None:
    if top_k is not None and kind != "top_k":
        reader.report.error(
            "E0832",
            f"top_k with a selector of type {kind}",
            values.where("top_k"),
            "every branch counts",
            help="set `type: top_k`, or take top_k out",
        )
    elif top_k is not None and top_k > count:
        reader.report.error(
            "E0832",
            f"top_k {top_k} of {count} branches",
            values.where("top_k"),
            "there are not so many",
            help=f"set it to {count - 1}",
        )
    elif kind == "top_k" and (top_k or 1) == 1:
        # A softmax over one branch is 1: nothing would tell the gate how good its choice is
        reader.report.note(
            "N0833",
            "a selector of one branch does not learn",
            values.where("top_k") if top_k is not None else values.where("type"),
            "the softmax over one branch is 1, and has no gradient",
            help="set top_k to 2, or use learned_gate",
        )


def _check_states(reader: TemplateReader, branches: tuple[Op, ...]) -> None:
    """A layer's cache holds the keys and values of one attention, and the states of one other mixer."""
    for recurrent, what in ((False, "attention"), (True, "recurrent mixer")):
        of_kind = [branch for branch in branches if _is_recurrent(branch) is recurrent]
        if len(of_kind) > 1:
            reader.report.error(
                "E0834",
                f"branches {of_kind[0].symbol} and {of_kind[1].symbol} are both {what}s"
                if recurrent
                else f"branches {of_kind[0].symbol} and {of_kind[1].symbol} are both attention",
                of_kind[1].span,
                "the cache of a layer has one place for each kind",
                secondary=((of_kind[0].span, "takes that place"),),
                help="make one of the two a layer of its own",
            )


def _check_caches(reader: TemplateReader, branches: tuple[Op, ...]) -> None:
    """transformers has caches for keys and states in one layer where the keys are all kept, or those of a window."""
    attending = [branch for branch in branches if not _is_recurrent(branch)]
    for branch in attending if len(attending) < len(branches) else ():
        kind = _kind(branch)
        if kind not in HYBRID_KINDS:
            in_chunks = kind == "chunked_attention"
            reader.report.error(
                "E0835",
                f"branch {branch.symbol} {'attends within chunks' if in_chunks else 'has an indexer'} "
                "beside a recurrent mixer",
                branch.span,
                "there is no cache for both in one layer",
                help="use a window that moves, or none" if in_chunks else "take the indexer out",
            )


def _kind(branch: Op) -> str:
    (mixer,) = branch.ops
    return str(layer_kind(evolve(mixer, carries=definition(mixer.name).carries(mixer))))


def _is_recurrent(branch: Op) -> bool:
    return _kind(branch) in RECURRENT_KINDS


def _check_numbers(reader: TemplateReader, branches: tuple[Op, ...]) -> None:
    """A number of a layer stands in one config field, whichever of its mixers reads it."""
    seen: dict[str, tuple[object, Op]] = {}
    for branch in branches:
        (mixer,) = branch.ops
        for name, value in definition(mixer.name).config_fields(mixer).items():
            known, first = seen.setdefault(name, (value, branch))
            if known != value:
                reader.report.error(
                    "E0454",
                    f"{name} is {known} in branch {first.symbol} and {value} in branch {branch.symbol}",
                    branch.span,
                    "one field of the config holds it for the layer",
                    secondary=((first.span, f"{known} here"),),
                    help=f"give both branches the same {name}",
                )
