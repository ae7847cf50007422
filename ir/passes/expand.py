"""arch -> layers: templates become graphs, the schedule becomes a stack between embedding and head.

It stands first because every other pass reads graphs. It writes what the wiring says, without looking for savings:
a parallel block gets its norm twice, a factor of 1 is multiplied; `simplify` takes that out.
"""

from __future__ import annotations

from attrs import evolve

from eulerc.ir.core import Attribute, Block, Module, Op, TensorType, Value
from eulerc.ir.definition import definition

CARRIED = ("spec", "tokenizer", "hints", "expect", "meta", "extensions")


class GraphBuilder:
    """Appends ops to a block; results are named by role, numbered where a role repeats."""

    def __init__(self, *arguments: Value) -> None:
        self.arguments = arguments
        self.ops: list[Op] = []
        self._names = {argument.name for argument in arguments}

    def add(self, op: Op, operands: tuple[Value, ...], role: str, **attributes: Attribute) -> Value:
        kind = definition(op.name)
        op = op.replacing(**attributes)
        (result_type,) = kind.result_types(op, tuple(operand.type for operand in operands))
        result = Value(self._unique(role), result_type)
        self.ops.append(evolve(op, operands=operands, results=(result,), carries=kind.carries(op)))
        return result

    def block(self, result: Value) -> Block:
        return Block(self.arguments, (*self.ops, Op("yield", operands=(result,))))

    def _unique(self, role: str) -> str:
        name, number = role, 1
        while name in self._names:
            number += 1
            name = f"{role}_{number}"
        self._names.add(name)
        return name


def expand(module: Module) -> Module:
    """The module at stage `layers`."""
    d_model = module.one("spec")["d_model"]
    templates = tuple(_template(op, d_model) for op in module.all("template"))
    carried = tuple(op for op in module.model.ops if op.name in CARRIED)
    return Module("layers", evolve(module.model, body=Block(ops=(*carried, *templates, _graph(module)))))


def _template(template: Op, d_model: int) -> Op:
    stream = Value("hidden_states", TensorType(("b", "t", d_model)))
    builder = GraphBuilder(stream)
    parts = {definition(op.name).axis or op.name: op for op in template.ops}
    wire = _parallel if parts["wiring"]["residual"] == "parallel" else _sequential
    return evolve(template, body=builder.block(wire(builder, stream, parts)))


def _sequential(builder: GraphBuilder, stream: Value, parts: dict[str, Op]) -> Value:
    pre_ffn = "pre_feedforward_layernorm" if parts["wiring"]["position"] == "sandwich" else "post_attention_layernorm"
    names = (("mixer", "input_layernorm", "post_attention_layernorm"), ("ffn", pre_ffn, "post_feedforward_layernorm"))
    for axis, before, after in names:
        output = _sublayer(builder, stream, parts, axis, before, after)
        stream = builder.add(Op("add"), (stream, output), "residual")
        if parts["wiring"]["position"] == "post":
            stream = builder.add(parts["norm"], (stream,), "normed", module=after)
    return stream


def _parallel(builder: GraphBuilder, stream: Value, parts: dict[str, Op]) -> Value:
    shared = parts["wiring"]["shared_norm"]
    before_ffn = "input_layernorm" if shared else "post_attention_layernorm"
    if parts["wiring"]["position"] == "sandwich" and not shared:
        before_ffn = "pre_feedforward_layernorm"
    mixed = _sublayer(builder, stream, parts, "mixer", "input_layernorm", "post_attention_layernorm")
    fed = _sublayer(builder, stream, parts, "ffn", before_ffn, "post_feedforward_layernorm")
    if parts["wiring"]["sum"] == "sublayers_first":
        return builder.add(Op("add"), (builder.add(Op("add"), (mixed, fed), "sublayers"), stream), "residual")
    return builder.add(Op("add"), (builder.add(Op("add"), (stream, mixed), "residual"), fed), "residual")


def _sublayer(builder: GraphBuilder, stream: Value, parts: dict[str, Op], axis: str, before: str, after: str) -> Value:
    """One sublayer from the stream to what is added to it."""
    wiring = parts["wiring"]
    if wiring["position"] in ("pre", "sandwich"):
        stream = builder.add(parts["norm"], (stream,), "normed", module=before)
    op = parts[axis]
    output = builder.add(op, (stream,), "mixed" if axis == "mixer" else "fed", module=definition(op.name).module_name)
    if wiring["position"] in ("output", "sandwich"):
        output = builder.add(parts["norm"], (output,), "normed", module=after)
    output = builder.add(Op("dropout", span=wiring.span), (output,), "dropped", p=wiring["dropout"])
    return builder.add(
        Op("scale", span=wiring.span), (output,), "scaled", by=wiring["scaling"], config="residual_multiplier"
    )


def _graph(module: Module) -> Op:
    spec, embedding, head = module.one("spec"), module.one("embedding"), module.one("head")
    builder = GraphBuilder(Value("input_ids", TensorType(("b", "t"), "int64")))
    stream = _embed(builder, spec, embedding)
    stream = builder.add(Op("stack"), (stream,), "hidden_states", schedule=module.one("schedule")["schedule"])
    for norm in head.ops:
        stream = builder.add(norm, (stream,), "normed", module="norm")
    shape: dict[str, Attribute] = {"vocab_size": spec["vocab_size"], "bias": head["bias"], "tied": head["tied"]}
    logits = builder.add(Op("unembed"), (stream,), "logits", **shape)
    if head["logit_scale"] is not None:
        logits = builder.add(Op("scale"), (logits,), "logits", by=head["logit_scale"], config="logit_scale")
    if head["logit_softcap"] is not None:
        logits = builder.add(Op("softcap"), (logits,), "logits", cap=head["logit_softcap"])
    return Op("graph", body=builder.block(logits))


def _embed(builder: GraphBuilder, spec: Op, embedding: Op) -> Value:
    shape: dict[str, Attribute] = {"vocab_size": spec["vocab_size"], "width": spec["d_model"]}
    stream = builder.add(Op("embed"), builder.arguments, "embedded", **shape)
    if embedding["scale"] is not None:
        rounded = embedding["scale_rounding"] == "dtype"
        stream = builder.add(
            Op("scale"), (stream,), "scaled", by=embedding["scale"], config="embedding_multiplier", round=rounded
        )
    if embedding["positional"] == "learned":
        table: dict[str, Attribute] = {
            "length": spec["max_seq_len"],
            "offset": embedding["position_offset"],
            "width": spec["d_model"],
        }
        stream = builder.add(Op("embed_positions"), (stream,), "embedded", **table)
    for norm in embedding.ops:
        stream = builder.add(norm, (stream,), "normed", module="embed_norm")
    return builder.add(Op("dropout"), (stream,), "dropped", p=embedding["dropout"])
