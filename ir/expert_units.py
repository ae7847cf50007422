"""Experts: the units that a router chooses from, and those that every token uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eulerc.ir.activations import XIELU
from eulerc.ir.context import ModelContext, Report, Values
from eulerc.ir.definition import ClassBinding, LocalTensor
from eulerc.ir.feed_forward import UNSHAPED, clamp_facts, gated_binding, plain_binding, resolve_width
from eulerc.ir.fields import Block, Field, Flag, Integer
from eulerc.ir.norms import NORM_FIELDS
from eulerc.ir.tensors import Init

EXPERT_FIELDS: dict[str, Field] = {
    "expert_size": Field(
        Integer(), "Width of one expert; the ffn's width if not set.", None, "size", "moe_intermediate_size"
    ),
    "gated_experts": Field(Flag(), "Experts, shared ones too, are gated units.", True),
    "expert_bias": Field(Flag(), "Biases on the projections of the routed experts.", False),
    "latent_size": Field(
        Integer(),
        "Width that the routed experts read and write, between two projections (Nemotron-H).",
        None,
        "size",
        "moe_latent_size",
    ),
    "identity_experts": Field(
        Integer(),
        "Further experts that give back what they read (LongCat-Flash).",
        None,
        "size",
        "num_identity_experts",
    ),
    "weigh_input": Field(Flag(), "Weights act on what the experts read, not on what they give (Llama 4).", False),
    "expert_norm": Field(
        Block(fields=NORM_FIELDS), "Norm on what experts read; the router reads what stands before it (Gemma 4).", None
    ),
    "output_bias": Field(Flag(), "One bias on the output of all experts together (JetMoE).", False),
}
"""The keys of `moe` that say what a routed expert is."""

SHARED_FIELDS: dict[str, Field] = {
    "shared_experts": Field(Integer(0), "Experts that every token uses, merged into one wide unit.", 0),
    "shared_size": Field(
        Integer(),
        "Width of all shared experts together; shared_experts * expert_size if not set.",
        None,
        "size",
        "shared_expert_intermediate_size",
    ),
    "shared_bias": Field(Flag(), "Biases on the projections of the shared experts.", False),
    "shared_gate": Field(
        Flag(), "A sigmoid gate on the shared experts' output, one number a token (Qwen2-MoE).", False
    ),
    "shared_average": Field(Flag(), "Halve the sum of routed and shared experts (Command A).", False),
}
"""The keys of `moe` about the experts that every token uses."""

PLAIN_EXPERTS: dict[str, Any] = {
    "gated_experts": True,
    "expert_bias": False,
    "latent_size": None,
    "identity_experts": None,
    "weigh_input": False,
    "expert_norm": None,
    "output_bias": False,
    "clamp": None,
    "activation_float32": False,
    "shared_size": 0,
    "shared_bias": False,
    "shared_gate": False,
    "shared_average": False,
}
"""Attributes that the textual IR leaves out where they have these values."""


def resolve_experts(values: Values, context: ModelContext, report: Report) -> dict[str, Any] | None:
    """The attributes of the experts, checked; None where their width is unknown."""
    size = _resolve_size(values, context, report)
    shared = _resolve_shared(values, size, report)
    _check_units(values, report)
    if size is None:
        return None
    names = ("gated_experts", "expert_bias", "latent_size", "identity_experts", "weigh_input", "output_bias")
    shared_names = ("shared_bias", "shared_gate", "shared_average")
    return {
        "expert_size": size,
        "activation_float32": values.value("activation_float32"),
        **{name: values.value(name) for name in names},
        "shared_size": shared,
        **{name: values.value(name) for name in shared_names},
    }


def projections(op: Mapping[str, Any]) -> int:
    """Matrices of one expert."""
    return 3 if op["gated_experts"] else 2


def expert_tensors(op: Mapping[str, Any], hidden_size: int, std: Init) -> list[LocalTensor]:
    """The routed experts' matrices and biases, and the projections around them."""
    count, size, latent = op["experts"], op["expert_size"], op["latent_size"]
    width = latent or hidden_size
    name, rows = ("gate_up_proj", 2 * size) if op["gated_experts"] else ("up_proj", size)
    tensors = [
        LocalTensor(f"experts.{name}", (count, rows, width), std),
        LocalTensor("experts.down_proj", (count, width, size), std),
    ]
    if op["expert_bias"]:
        tensors.append(LocalTensor(f"experts.{name}_bias", (count, rows), Init("zeros")))
        tensors.append(LocalTensor("experts.down_proj_bias", (count, width), Init("zeros")))
    if latent:
        tensors.append(LocalTensor("fc1_latent_proj.weight", (latent, hidden_size), std))
        tensors.append(LocalTensor("fc2_latent_proj.weight", (hidden_size, latent), std))
    return tensors


def experts_binding(op: Mapping[str, Any]) -> ClassBinding:
    """The class of the routed experts."""
    name = "gate_up_proj" if op["gated_experts"] else "up_proj"
    init = {name: "normal", "down_proj": "normal"}
    facts: dict[str, Any] = {"expert_bias": op["expert_bias"], "moe_latent_size": op["latent_size"] is not None}
    if op["expert_bias"]:
        init |= {f"{name}_bias": "zeros", "down_proj_bias": "zeros"}
    arguments = [
        text for text, given in (("has_bias=True", op["expert_bias"]), ("has_gate=False", name == "up_proj")) if given
    ]
    decorator = f"use_experts_implementation({', '.join(arguments)})" if arguments else "use_experts_implementation"
    slots = {"use_experts_implementation": decorator} if arguments else {}
    if not op["gated_experts"]:
        return ClassBinding("plain_experts", "PlainExperts", facts, slots, base="Experts", init=init)
    if op["clamp"] is not None or op["activation_float32"]:
        facts |= clamp_facts(op["clamp"]) | {"experts_in_float32": op["activation_float32"]}
        return ClassBinding("shaped_experts", "ShapedExperts", facts, slots, base="Experts", init=init)
    return ClassBinding("experts", "GatedExperts", facts, slots, base="Experts", init=init)


def shared_options(op: Mapping[str, Any]) -> dict[str, Any]:
    """The shared experts as a dense network."""
    options = {name: op[name] for name in ("activation", "clamp", "activation_float32")}
    return {**UNSHAPED, **options, "bias": op["shared_bias"]}


def shared_binding(op: Mapping[str, Any]) -> ClassBinding:
    """The class of the shared experts."""
    bind = gated_binding if op["gated_experts"] else plain_binding
    return bind(shared_options(op), takes_width=True)


def _resolve_size(values: Values, context: ModelContext, report: Report) -> int | None:
    """Width of one expert: `expert_size`, else the width of feed-forward layers."""
    size = values.get("expert_size")
    for key in ("intermediate_size", "mlp_ratio"):
        if size is not None and key in values:
            report.error(
                "E0338",
                f"expert_size and {key} together",
                values.where(key),
                "also sets the experts' width",
                secondary=((values.where("expert_size"), "the experts' width, set here"),),
                help="keep one of the two",
            )
    return size if size is not None else resolve_width(values, context, report)


def _resolve_shared(values: Values, size: int | None, report: Report) -> int:
    """Width of the shared experts, 0 without any."""
    count = values.value("shared_experts")
    for key in ("shared_size", "shared_bias", "shared_gate", "shared_average"):
        if values.get(key) and not count:
            report.error(
                "E0326",
                f"{key} without shared experts",
                values.where(key),
                "there is nothing of this width" if key == "shared_size" else "there is nothing that it acts on",
                help=f"add `shared_experts: 1`, or take {key} out",
            )
    return int(values.get("shared_size") or count * (size or 0)) if count else 0


def _check_units(values: Values, report: Report) -> None:
    """What experts cannot be."""
    if values.get("bias"):
        report.error(
            "E0325",
            "bias of experts",
            values.where("bias"),
            "not read by moe",
            help="take bias out, and set expert_bias, shared_bias or router_bias under moe",
        )
    if values.get("activation") == XIELU:
        report.error(
            "E0467",
            "xielu in experts",
            values.where("activation"),
            "its parameters belong to one network",
            help="use another activation, relu2 for instance",
        )
    for key in ("clamp", "activation_float32"):
        if values.get(key) and not values.value("gated_experts"):
            report.error(
                "E0468",
                f"{key} of experts without a gate",
                values.where(key),
                "there is no gated unit",
                secondary=((values.where("gated_experts"), "no gate, set here"),),
                help=f"take {key} out, or gated_experts",
            )
    if values.get("identity_experts") and values.value("weigh_input"):
        report.error(
            "E0469",
            "weigh_input beside identity experts",
            values.where("weigh_input"),
            "would weigh what they give back",
            secondary=((values.where("identity_experts"), "identity experts, set here"),),
            help="take one of the two out",
        )


def expert_traits(op: Mapping[str, Any]) -> tuple[str, ...]:
    """What the experts tell an engine that puts its own in their place."""
    found = {
        "expert_kind": op["activation"] != "silu"
        or not op["gated_experts"]
        or op["clamp"] is not None
        or op["activation_float32"],
        "expert_bias": op["expert_bias"],
        "expert_latent": op["latent_size"] is not None,
        "expert_identity": op["identity_experts"] is not None,
    }
    return ("experts", *(name for name, there in found.items() if there))
