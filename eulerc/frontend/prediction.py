"""`head.mtp`: the modules that predict further tokens, and the rules for their template."""

from __future__ import annotations

from collections.abc import Sequence

from eulerc.diagnostics.suggest import closest
from eulerc.frontend.blocks import MTP
from eulerc.frontend.schedule import Layer
from eulerc.frontend.templates import Templates
from eulerc.ir.context import Report, UnreadError, Values
from eulerc.ir.core import Attribute, Op, Symbol
from eulerc.ir.definition import definition
from eulerc.ir.gating import gate_of
from eulerc.ir.memories import is_memory
from eulerc.ir.ops.hyper_connection import hyper_of


def prediction_of(
    head: Values, templates: Templates, layers: Sequence[Layer], report: Report
) -> dict[str, Attribute] | None:
    """The prediction modules as an attribute of the head; None without them, or where errors were reported."""
    try:
        given, wanted = head.get("mtp"), head.value("type") == "causal_lm_mtp"
        name = None if given is None else head.inner("mtp").get("head_template")
    except UnreadError:
        return None
    if not check_type(given is not None, wanted, head, templates, report) or not isinstance(name, str):
        return None
    if not check_name(name, head, templates, report):
        return None
    scheduled = {layer.template for layer in layers}
    symbol = templates.instance(name, head.where("mtp.head_template"), again=name in scheduled)
    if symbol is None or given is None:
        return None
    return {**{key: given.get(key, field.default) for key, field in MTP.items()}, "head_template": Symbol(symbol)}


def head_templates(head: Values) -> set[str]:
    """The names of templates that the head uses."""
    mtp = head.given.get("mtp")
    name = mtp.get("head_template") if isinstance(mtp, dict) else None
    return {name} if isinstance(name, str) else set()


def check_type(given: bool, wanted: bool, head: Values, templates: Templates, report: Report) -> bool:
    """The block and the type of the head that reads it come together."""
    if given and not wanted:
        report.error(
            "E0714",
            "mtp in a head of type causal_lm",
            head.where("mtp"),
            "predicts further tokens, and this head only the next",
            secondary=((head.where("type"), "set here"),) if "type" in head else (),
            help="set type to causal_lm_mtp, or take mtp out",
        )
    if wanted and not given:
        report.error(
            "E0715",
            "causal_lm_mtp without mtp",
            head.where("type"),
            "of which layers are the modules made?",
            help=f"add `mtp: {{head_template: {next(iter(templates.bodies), 'NAME')}}}`",
        )
    return given and wanted


def check_name(name: str, head: Values, templates: Templates, report: Report) -> bool:
    """The template exists. Where nobody knows the templates, nothing is said."""
    if templates.names is None or name in templates.names:
        return name in templates.bodies
    near = closest(name, templates.names)
    report.error(
        "E0716",
        f"no template is called {name!r}",
        head.where("mtp.head_template"),
        "not among layer_templates",
        help=f"did you mean {near}?" if near else f"there are {', '.join(templates.names)}",
    )
    return False


def check_template(template: Op, layers: Sequence[Op], head: Values, report: Report) -> None:
    """The layers of a prediction module have no layers before them to take from, and the model's rotary tables."""
    where = head.where("mtp.head_template")
    taken = [value.name for op in template.walk() for value in definition(op.name).takes(op)]
    if taken:
        report.error(
            "E0717",
            f"head_template {template.symbol} takes what an earlier layer makes",
            where,
            f"no layer before it makes its {taken[0]}",
            help="name a template whose layers stand for themselves",
        )
    if any(op.get("prefix_lm") for op in template.ops) and not any(
        op.get("prefix_lm") for layer in layers for op in layer.ops
    ):
        report.error(
            "E0719",
            f"head_template {template.symbol} has a prefix that no layer has",
            where,
            "predicts from states of layers that do not see ahead",
            help="set prefix_lm to false in it, or to true in a layer",
        )
    if any(op.name == "mixer.branched" for op in template.ops):
        report.error(
            "E0795",
            f"head_template {template.symbol} has several mixers in a layer",
            where,
            "layers of prediction modules get one mask",
            help="name a template with one mixer",
        )
    if any(map(is_memory, template.ops)):
        report.error(
            "E0876",
            f"head_template {template.symbol} has a memory",
            where,
            "layers of prediction modules read other tokens than the model's",
            help="name a template without memory",
        )
    if any(op.get("m_block") is not None for op in template.ops):
        report.error(
            "E0868",
            f"head_template {template.symbol} reads blocks of tokens",
            where,
            "layers of prediction modules keep no blocks",
            help="name a template without compression",
        )
    if any(op.name == "ffn.channel_mix" for op in template.walk()):
        report.error(
            "E0852",
            f"head_template {template.symbol} has a channel_mix",
            where,
            "layers of prediction modules get one mask, that of their mixer",
            help="name a template with another feed-forward network",
        )
    if gate_of(template) is not None:
        report.error(
            "E0794",
            f"head_template {template.symbol} lets some tokens past",
            where,
            "predicts for every token",
            help="name a template without depth_gating",
        )
    if hyper_of(template) is not None:
        report.error(
            "E0883",
            f"head_template {template.symbol} has hyper-connections",
            where,
            "prediction modules have one stream",
            help="name a template without them",
        )
    known = [op["rope"] for layer in layers for op in layer.ops if op.get("rope") is not None]
    ropes = [op["rope"] for op in template.ops if op.get("rope") is not None]
    if any(rope not in known for rope in ropes):
        report.error(
            "E0718",
            f"head_template {template.symbol} has a rope that no layer has",
            where,
            "prediction modules read the rotary tables of the layers",
            help="give it the rope of a layer, or `rope: none`",
        )
