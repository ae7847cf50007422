"""`memory_gate`: how a memory's output meets the mixer's, where it is not added."""

from __future__ import annotations

from typing import Any

from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Definition, LocalTensor, register
from eulerc.ir.tensors import Init


@register
class MemoryGate(Definition):
    """The mixer's output, normed and gated by the sigmoid of the memory's, normed too (Titans, eq. 28)."""

    name = "memory_gate"
    portable = True
    stages = frozenset({"layers", "module"})

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return (
            LocalTensor("mixer_norm.weight", (hidden_size,), Init("ones")),
            LocalTensor("memory_norm.weight", (hidden_size,), Init("ones")),
        )

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        norm = Op("norm.rms", attributes={"eps": op["eps"]})
        return ClassBinding("memory_gate", "MemoryGate", slots={"GateNorm": norm})

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, Any]:
        return {"memory_norm_eps": float(op["eps"])}
