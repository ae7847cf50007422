"""What recurrent and convolutional mixers share: their states, their short convolution, the chunks they work in."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from eulerc.ir.core import Op, StateType
from eulerc.ir.definition import Definition, LocalTensor
from eulerc.ir.numbers import CONV
from eulerc.ir.tensors import Init


def conv_state(channels: int, kernel: int) -> StateType:
    """The inputs that a causal convolution reads again, (batch, channels, kernel)."""
    return StateType(CONV, ("b", channels, kernel))


def recurrent_state(*dims: int) -> StateType:
    """A state that does not grow, in float32: (batch, *dims)."""
    return StateType("recurrent", ("b", *dims), "float32")


def conv_tensors(name: str, channels: int, kernel: int, bias: bool) -> tuple[LocalTensor, ...]:
    """A depthwise convolution, which starts as torch starts one: uniform within kernel^-0.5, biases zero."""
    bound = (Decimal(1) / Decimal(kernel)).sqrt()
    weight = LocalTensor(f"{name}.weight", (channels, 1, kernel), Init("uniform", -bound, bound))
    return (weight, LocalTensor(f"{name}.bias", (channels,), Init("zeros"))) if bias else (weight,)


class RecurrentMixer(Definition):
    """A mixer whose decode state does not grow with the sequence."""

    axis = "mixer"
    gives_weights: ClassVar[bool] = False

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("recurrent",)
