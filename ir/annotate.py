"""End-of-line numbers for the textual IR: parameters, work and state of each op."""

from eulerc.ir.compact import completed
from eulerc.ir.core import Module, Op, StateType
from eulerc.ir.definition import definition
from eulerc.ir.numbers import STREAM_RANK, last_dim
from eulerc.ir.starting import model_init
from eulerc.ir.tensors import Init


def op_notes(module: Module) -> dict[int, str]:
    """By the id of an op: its parameters, multiply-adds a token, and numbers of state a token."""
    spec = module.one("spec")
    std = model_init(spec)
    found = {}
    for op in module.model.walk():
        if op.name in ("model", "template", "graph"):
            continue
        reads_stream = op.operands and len(op.operands[0].type.dims) >= STREAM_RANK
        text = _note(completed(op), last_dim(op.operands[0]) if reads_stream else int(spec["d_model"]), std)
        if text:
            found[id(op)] = text
    return found


def _note(op: Op, width: int, std: Init) -> str:
    kind = definition(op.name)
    count = sum(_numel(tensor.shape) for tensor in kind.tensors(op, width, std) if not tensor.buffer)
    cost = kind.cost(op, width)
    parts = [f"{count:,} parameters"] if count else []
    if cost.linear:
        parts.append(f"{2 * cost.linear:,} FLOPs/token")
    if cost.attention:
        parts.append(f"{2 * cost.attention:,} FLOPs/pair")
    state = sum(_per_token(item) for item in op.carries)
    if state:
        parts.append(f"{state:,} numbers of state/token")
    return ", ".join(parts)


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= int(size)
    return count


def _per_token(state: StateType) -> int:
    return (2 if state.kind == "kv" else 1) * _numel(tuple(extent for extent in state.dims if isinstance(extent, int)))
