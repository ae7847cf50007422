"""Small number theory for helps: values that would work."""

from __future__ import annotations


def divisors(number: int) -> list[int]:
    """All positive divisors, ascending; `number` is small (head counts, widths)."""
    small = [candidate for candidate in range(1, int(number**0.5) + 1) if number % candidate == 0]
    return sorted({*small, *(number // candidate for candidate in small)})


def nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` nearest to `wanted`, the smaller one of two."""
    return min(divisors(number), key=lambda candidate: (abs(candidate - wanted), candidate))
