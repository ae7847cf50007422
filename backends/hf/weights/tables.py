"""The quantile table of the standard normal, and its scaled, rounded copies.

Every float operation here is one of `+ - * / sqrt`, a conversion, or `frexp`: IEEE 754 fixes their last bit, so the
table is the same on every CPU. No libm function, no sum whose order the hardware picks, no fused multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from math import factorial

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint16] | NDArray[np.uint32]
"""Bit patterns of elements, little-endian in memory."""

LANE_BITS = 16
"""Random bits that pick an element's bin, and again as many that refine an outermost bin."""

BINS = 1 << LANE_BITS

_LN2 = 0.6931471805599453
_UNIT_VARIANCE = 1.000001151756038
"""1 / sqrt(variance of the midpoint quantiles); `test_tables.py` holds the variance of the table to 1 within 1e-14."""

# Wichura (1988), Algorithm AS 241 (PPND16), Applied Statistics 37 (3), 477-484; highest power first.
_CENTRE_NUMERATOR = (
    2.5090809287301226727e3,
    3.3430575583588128105e4,
    6.7265770927008700853e4,
    4.5921953931549871457e4,
    1.3731693765509461125e4,
    1.9715909503065514427e3,
    1.3314166789178437745e2,
    3.3871328727963666080e0,
)
_CENTRE_DENOMINATOR = (
    5.2264952788528545610e3,
    2.8729085735721942674e4,
    3.9307895800092710610e4,
    2.1213794301586595867e4,
    5.3941960214247511077e3,
    6.8718700749205790830e2,
    4.2313330701600911252e1,
    1.0,
)
_TAIL_NUMERATOR = (
    7.74545014278341407640e-4,
    2.27238449892691845833e-2,
    2.41780725177450611770e-1,
    1.27045825245236838258e0,
    3.64784832476320460504e0,
    5.76949722146069140550e0,
    4.63033784615654529590e0,
    1.42343711074968357734e0,
)
_TAIL_DENOMINATOR = (
    1.05075007164441684324e-9,
    5.47593808499534494600e-4,
    1.51986665636164571966e-2,
    1.48103976427480074590e-1,
    6.89767334985100004550e-1,
    1.67638483018380384940e0,
    2.05319162663775882187e0,
    1.0,
)
_EXPONENTIAL_SERIES = tuple(1.0 / factorial(power) for power in range(18, -1, -1))
_LOGARITHM_SERIES = tuple(2.0 / power for power in range(37, 0, -2))


def _polynomial(coefficients: Sequence[float], x: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total


def _logarithm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln x by 2 artanh((m - 1) / (m + 1)) of the mantissa m, to a few units in the last place."""
    mantissa, exponent = np.frexp(x)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    return exponent * _LN2 + ratio * _polynomial(_LOGARITHM_SERIES, ratio * ratio)


def _exponential(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp x for |x| up to 700, to a few units in the last place, by a series in x less a multiple of ln 2."""
    halvings = np.rint(x / _LN2)
    return np.ldexp(_polynomial(_EXPONENTIAL_SERIES, x - halvings * _LN2), halvings.astype(np.int64))


def _near_quantile(tail: NDArray[np.float64]) -> NDArray[np.float64]:
    centre = 0.5 - tail
    square = 0.180625 - centre * centre
    return centre * _polynomial(_CENTRE_NUMERATOR, square) / _polynomial(_CENTRE_DENOMINATOR, square)


def _far_quantile(tail: NDArray[np.float64]) -> NDArray[np.float64]:
    radius = np.sqrt(-_logarithm(tail)) - 1.6
    return _polynomial(_TAIL_NUMERATOR, radius) / _polynomial(_TAIL_DENOMINATOR, radius)


def upper_quantile(tail: NDArray[np.float64]) -> NDArray[np.float64]:
    """z with P(Z > z) = `tail` for a standard normal Z; `tail` in [exp(-25), 0.5], float64, any shape."""
    far = tail < 0.075
    quantile = np.empty_like(tail)
    quantile[far] = _far_quantile(tail[far])
    quantile[~far] = _near_quantile(tail[~far])
    return quantile


@lru_cache(maxsize=1)
def standard_normal() -> NDArray[np.float64]:
    """Three tables of `BINS` entries on end: all bins, the lowest bin refined, the highest bin refined.

    The normal's mass is cut into `BINS` equal bins; entry i is the quantile at the middle of bin i. The outermost bins
    are cut again into `BINS` equal parts, so values reach 6.34 standard deviations, as far as 2**32 draws of the true
    normal do. All are scaled by one constant that makes the variance 1; the mean is 0 by symmetry.
    """
    middles = (np.arange(BINS, dtype=np.float64) + 0.5) / BINS
    upper = upper_quantile(middles[: BINS // 2])
    tail = upper_quantile(middles / BINS)
    table = np.concatenate([-upper, upper[::-1], -tail, tail]) * _UNIT_VARIANCE
    table.setflags(write=False)
    return table


def _float32(values: NDArray[np.float32]) -> Bits:
    return values.view(np.uint32).astype("<u4")


def _float16(values: NDArray[np.float32]) -> Bits:
    return values.astype(np.float16).view(np.uint16).astype("<u2")


def _bfloat16(values: NDArray[np.float32]) -> Bits:
    """The upper halves of float32 bit patterns, rounded to nearest, ties to even."""
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2")


_ENCODERS: dict[str, Callable[[NDArray[np.float32]], Bits]] = {
    "float32": _float32,
    "float16": _float16,
    "bfloat16": _bfloat16,
}
_INFINITY = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}


def encode(values: NDArray[np.float64], dtype: str) -> Bits:
    """Little-endian bit patterns of `values` in `dtype`: uint32 for float32, uint16 for bfloat16 and float16.

    float64 rounds to float32 first and from there to the 16-bit type, so that a 16-bit weight is always the rounding
    of the float32 weight of the same seed. Raises OverflowError where a value has no finite counterpart.
    """
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
        bits = _ENCODERS[dtype](single)
    infinity = _INFINITY[dtype]
    if np.any((bits & infinity) == infinity):
        raise OverflowError(f"{np.abs(values).max():g} does not fit in {dtype}")
    return bits


@lru_cache(maxsize=16)
def normal_table(deviation: Decimal, dtype: str) -> Bits:
    """`standard_normal()` times `deviation`, encoded: one float64 product, then the roundings of `encode`."""
    return encode(standard_normal() * float(deviation), dtype)


def _middles() -> NDArray[np.float64]:
    return (np.arange(BINS, dtype=np.float64) + 0.5) / BINS


@lru_cache(maxsize=16)
def uniform_table(low: Decimal, high: Decimal, dtype: str) -> Bits:
    """The middles of `BINS` equal parts of the range, encoded."""
    return encode(float(low) + float(high - low) * _middles(), dtype)


@lru_cache(maxsize=16)
def inverse_softplus_table(low: Decimal, high: Decimal, dtype: str) -> Bits:
    """y with ln(1 + exp y) = s, for `BINS` values s between `low` and `high` at equal ratios, encoded."""
    ends = _logarithm(np.array([float(low), float(high)]))
    steps = _exponential(ends[0] + (ends[1] - ends[0]) * _middles())
    return encode(steps + _logarithm(1.0 - _exponential(-steps)), dtype)


@lru_cache(maxsize=16)
def log_uniform_table(low: Decimal, high: Decimal, dtype: str) -> Bits:
    """The logarithms of the middles of `BINS` equal parts of the range, encoded."""
    return encode(_logarithm(float(low) + float(high - low) * _middles()), dtype)


@lru_cache(maxsize=16)
def ring_decays_table(low: Decimal, high: Decimal, dtype: str) -> Bits:
    """y with exp(-ln(1 + exp y)) = a, for `BINS` values a between `low` and `high` with equal steps of a^2, encoded."""
    squares = float(low * low) + float(high * high - low * low) * _middles()
    return encode(_logarithm(1.0 / np.sqrt(squares) - 1.0), dtype)


@lru_cache(maxsize=16)
def log_table(count: int, dtype: str) -> Bits:
    """ln 1, ln 2, ..., ln `count`, encoded."""
    return encode(_logarithm(np.arange(1, count + 1, dtype=np.float64)), dtype)


@lru_cache(maxsize=16)
def linear_table(low: Decimal, high: Decimal, count: int, dtype: str) -> Bits:
    """`count` values from `low` to `high` in equal steps, encoded; `low` alone if there is one."""
    steps = np.arange(count, dtype=np.float64) / max(count - 1, 1)
    return encode(float(low) + float(high - low) * steps, dtype)
