"""`mtp`: modules that predict further tokens, and the ops within them (DeepSeek-AI 2024, DeepSeek-V3, section 2.2)."""

from __future__ import annotations

from eulerc.ir.core import Op, TensorType
from eulerc.ir.definition import Cost, Definition, LocalTensor, linear, register
from eulerc.ir.ops.wiring import GRAPH
from eulerc.ir.tensors import Init


@register
class Mtp(Definition):
    """Modules that each predict one token more than the one before; the body is that of one of them.

    `depth` is their number, `loss_weight` the weight of their mean loss in training.
    """

    name = "mtp"
    stages = GRAPH
    portable = True

    @classmethod
    def result_types(cls, op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return ()


@register
class MtpJoin(Definition):
    """The normed embedding of a token beside the normed states before it, projected to the stream's width (eq. 21)."""

    name = "mtp.join"
    stages = GRAPH
    portable = True

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return tuple(
            LocalTensor(tensor.name.removeprefix("."), tensor.shape, tensor.init)
            for tensor in linear("", 2 * hidden_size, hidden_size, False, std)
        )

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(2 * hidden_size * hidden_size)


@register
class MtpBlocks(Definition):
    """Layers of one template (eq. 22)."""

    name = "mtp.blocks"
    stages = GRAPH
    portable = True
