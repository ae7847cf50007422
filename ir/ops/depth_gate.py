"""Mixture-of-Depths: only some tokens go through a layer (Raposo et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eulerc.ir.cache_kinds import grows
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.core import Op, StateType, TensorType
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, definition, is_mixer, register
from eulerc.ir.fields import Choice, Field, Flag, Number
from eulerc.ir.gating import GATE, gate_of
from eulerc.ir.ops.no_sublayer import is_none
from eulerc.ir.span import Span
from eulerc.ir.tensors import Init

LOSSES = ("load_balance_coef", "z_loss", "sequence_aux_coef")
"""The attributes of ops whose routers' logits enter the loss."""


@register
class DepthGate(Definition):
    """The tokens that go through the layer: the best by a router in training, those with a positive logit after it."""

    name = GATE
    cache_kind = "indexed_attention"
    implicit = {"router_float32": False}
    spelled = {name: f"depth_gating.{name}" for name in ("capacity", "router", "aux_coef")} | {
        "router_float32": "compatibility.dtype_policy"
    }

    capacity = Field(
        Number(0, 1, exclusive=True), "Share of the tokens that go through, in training.", 0.5, "size", "depth_capacity"
    )
    router = Field(
        Choice(
            meanings={
                "top_k": "the router's logit (Raposo et al. 2024, eq. 1)",
                "learned_gate": "the sigmoid of the logit, between 0 and 1",
            }
        ),
        "What weighs the layer's output on a token that goes through.",
        "top_k",
    )
    aux_coef = Field(
        Number(0),
        "Weight of the loss that teaches the router's sign which tokens are the best, in training.",
        0.01,
        "train",
        "depth_loss_coef",
    )

    @classmethod
    def lower(cls, values: Values, context: ModelContext, report: Report) -> Op | None:
        attributes = {name: values.value(name) for name in ("capacity", "router", "aux_coef")}
        attributes["router_float32"] = context.layered_safe
        return Op(cls.name, attributes=attributes, span=values.span, spans=values.spans)

    @classmethod
    def carries(cls, op: Op) -> tuple[StateType, ...]:
        return (StateType("gone_through", ("b", "t", 1)),)

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("depth",)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        dtype = "float32" if cls.option(op, "router_float32") else None
        return (LocalTensor("router.proj.weight", (1, hidden_size), std, dtype),)

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(linear=hidden_size)

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        slots = {"DepthRouter": ClassBinding("depth_router", "DepthRouter")}
        return ClassBinding("depth_gate", "DepthGate", {"depth_router": op["router"]}, slots)


@register
class Rejoin(Definition):
    """The stream, with what the layer made of the tokens that went through it in their places."""

    name = "rejoin"
    portable = True
    stages = frozenset({"layers", "module"})

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return operands[:1]


GATING: dict[str, Field] = {
    "enabled": Field(Flag(), "Whether only some tokens go through these layers.", True),
    **DepthGate.fields,
}
"""The keys of `depth_gating`."""


def check_gate(gate: Op, mixer: Op, change: Op | None, report: Report) -> None:
    """What does not stand in a gated layer."""
    if is_none(mixer):
        report.error(
            "E0792",
            "a gate on a layer without a mixer",
            gate.span,
            "padding is told by the mask of attention, and there is none",
            help="gate layers with attention",
        )
    if change is not None:
        report.error(
            "E0793",
            "shape_change in a gated layer",
            change.span,
            "tokens that go past keep their width",
            secondary=((gate.span, "only some tokens go through, set here"),),
            help="end another layer with it",
        )
    hindrances = (found for part in mixer.walk() if is_mixer(part) for found in _hindrances(part))
    for key, place, why in hindrances:
        report.error(
            "E0790",
            f"{key} in a gated layer",
            place,
            why,
            secondary=((gate.span, "only some tokens go through, set here"),),
            help=f"take {key} out, or the gate of these layers",
        )


def _hindrances(mixer: Op) -> Iterator[tuple[str, Span, str]]:
    """What keeps a mixer from running on some of the tokens: its name, its place, and why."""
    kind = definition(mixer.name)
    reasons = {
        "window": "its cache keeps no record of which tokens went through",
        "indexer": "its cache keeps keys of the indexer in the place of that record",
    }
    for key, why in reasons.items():
        if mixer.get(key) is not None:
            yield key, mixer.where(key), why
    if any(value.key == "kv" for value in kind.takes(mixer)):
        yield "kv", mixer.where("kv"), "the layer that makes them has keys of all tokens"
    if not all(map(grows, kind.carries(mixer))):
        yield str(kind.yaml_type or kind.title), mixer.span, "its state takes in every token"


def check_gated_routers(templates: Sequence[Op], report: Report) -> None:
    """The losses of routers count the tokens of a row, and those of a gated layer see only some of them."""
    weighed = next(((op, key) for op in _walk(templates) for key in LOSSES if op.get(key)), None)
    for template in templates:
        gate = gate_of(template)
        if gate is None or weighed is None or not any(LOSSES[0] in op.attributes for op in _walk([template])):
            continue
        op, key = weighed
        report.error(
            "E0791",
            "experts in a gated layer beside a loss on routers",
            gate.span,
            "routers here see some of the tokens",
            secondary=((op.where(key), "experts with such a loss"),),
            help="set load_balance_coef to 0, and balance the experts by bias_correction",
        )
        return


def _walk(templates: Sequence[Op]) -> Iterator[Op]:
    return (op for template in templates for op in template.walk())
