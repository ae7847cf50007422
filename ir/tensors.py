"""The init plan: every tensor of the model, from which weights, counts and `_init_weights` all come."""

from __future__ import annotations

from decimal import Decimal
from math import prod
from typing import Literal

from attrs import frozen

InitKind = Literal["normal", "zeros", "ones", "constant"]


@frozen
class Init:
    """A distribution. `normal` has mean 0 and standard deviation `value`; `constant` fills with `value`.

    `value` is a decimal literal so that scaling is exact and the same on every machine.
    """

    kind: InitKind
    value: Decimal = Decimal(0)


@frozen
class TensorPlan:
    """One tensor of the state dict.

    `name` is its full state-dict key, `dtype` is `float32`, `bfloat16` or `float16`; `tied_to` names the tensor whose
    storage it shares (then it is neither counted nor written); `buffer` marks persistent buffers, which are saved but
    are not parameters. A parameter that is not `trained` has no gradient.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    init: Init
    tied_to: str | None = None
    buffer: bool = False
    trained: bool = True

    @property
    def numel(self) -> int:
        return prod(self.shape)
