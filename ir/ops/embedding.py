"""From token ids to the stream, and from the stream to logits."""

from __future__ import annotations

from typing import Any

from eulerc.ir.core import Op, TensorType
from eulerc.ir.definition import Cost, Definition, LocalTensor, register
from eulerc.ir.tensors import Init

GRAPH = frozenset({"layers", "module"})


@register
class Embed(Definition):
    """Token embedding: `[b, t]` ids to `[b, t, d]`."""

    name = "embed"
    portable = True
    stages = GRAPH
    module_name = "embed_tokens"

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return (TensorType((*operands[0].dims, op["width"])),)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return (LocalTensor("weight", (op["vocab_size"], op["width"]), std),)

    @classmethod
    def active(cls, op: Op, name: str, numel: int) -> int:
        return 0


@register
class EmbedPositions(Embed):
    """Learned absolute positions, added to the stream; row `position + offset` of the table."""

    name = "embed_positions"
    module_name = "embed_positions"

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return operands[:1]

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return (LocalTensor("weight", (op["length"] + op["offset"], op["width"]), std),)


@register
class AddSinusoids(Definition):
    """Sines and cosines of `position + offset`, added to the stream (Vaswani et al. 2017, section 3.5)."""

    name = "add_sinusoids"
    portable = True
    stages = GRAPH


@register
class Unembed(Definition):
    """Projection of the stream onto the vocabulary."""

    name = "unembed"
    stages = GRAPH
    module_name = "lm_head"
    implicit = {"bias": False, "width": None, "tokens": None}

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        found = {"head_bias": op["bias"], "head_width": op["width"] is not None, "head_rows": op["tokens"] is not None}
        return tuple(name for name, there in found.items() if there)

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return (TensorType((*operands[0].dims[:-1], op["tokens"] or op["vocab_size"])),)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        weight = LocalTensor("weight", (op["vocab_size"], op["width"] or hidden_size), std)
        return (weight, LocalTensor("bias", (op["vocab_size"],), Init("zeros"))) if op["bias"] else (weight,)

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(op["vocab_size"] * (op["width"] or hidden_size))

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {} if op["tokens"] is None else {"unpadded_vocab_size": op["tokens"]}


@register
class Project(Definition):
    """A projection between the embedding's width and the stream's."""

    name = "project"
    portable = True
    stages = GRAPH

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return (TensorType((*operands[0].dims[:-1], op["outputs"])),)

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return (LocalTensor("weight", (op["outputs"], op["inputs"]), std),)

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(op["inputs"] * op["outputs"])

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {"embedding_size": op["inputs"] if op["module"] == "project_in" else op["outputs"]}
