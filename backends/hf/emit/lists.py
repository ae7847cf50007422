"""Lists over layers as Python expressions: the schedule of a generated config."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from eulerc.backends.hf.emit.emitter import WIDTH, Emitter
from eulerc.ir.rolling import Leaf, Rolled, roll

INDENT = 12
"""Where such lines begin."""

FEW = 3
"""Shorter stretches of consecutive numbers are written out."""


def listed(emitter: Emitter, head: str, names: list[str]) -> None:
    """A line that sets a list of names; several where its shortest form is too long for one."""
    expression = schedule_expression(names)
    if len(head) + len(expression) <= WIDTH - INDENT:
        emitter.line(head + expression)
    else:
        emitter.literal(head, names)


def schedule_expression(names: list[str]) -> str:
    """A list that repeats, as a Python expression over literals: `["a", "b"] * 3 + ["a"]`."""
    best: tuple[int, str] | None = None
    for length in range(1, len(names) + 1):
        times, rest = divmod(len(names), length)
        unit = names[:length]
        if unit * times + names[length * times :] == names and names[length * times :] == unit[:rest]:
            text = _literal(unit) + (f" * {times}" if times > 1 else "")
            text += f" + {_literal(unit[:rest])}" if rest else ""
            best = min(filter(None, (best, (len(text), text))))
    runs = _runs(names)
    return min(item for item in (best, (len(runs), runs)) if item is not None)[1]


def _runs(names: list[str]) -> str:
    """Run-length form."""
    parts: list[tuple[str, int]] = []
    for name in names:
        if parts and parts[-1][0] == name:
            parts[-1] = (name, parts[-1][1] + 1)
        else:
            parts.append((name, 1))
    return " + ".join(_literal([name]) + (f" * {times}" if times > 1 else "") for name, times in parts)


def _literal(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def indices(emitter: Emitter, head: str, values: Sequence[int]) -> None:
    """A line, or several, that sets or extends a list of numbers: `head` ends in the operator."""
    texts = [str(value) for value in values]
    expression = _rolled(roll(texts), texts)
    if len(head) + len(expression) <= WIDTH - INDENT:
        emitter.line(head + expression)
        return
    items = [item for stretch in _stretches(values) for item in _items(stretch)]
    with emitter.indent(f"{head}["):
        for item in items:
            emitter.line(f"{item},")
    emitter.line("]")


def _rolled(items: Rolled, texts: Sequence[str]) -> str:
    """`[0] + [1, 2] * 3`, the shortest form of a list with repetitions."""
    terms: list[str] = []
    for is_single, group in groupby(items, lambda item: isinstance(item, Leaf) and item.count == 1):
        found = list(group)
        if is_single:
            terms.append(f"[{', '.join(texts[item.index] for item in found if isinstance(item, Leaf))}]")
            continue
        for item in found:
            inner = f"[{texts[item.index]}]" if isinstance(item, Leaf) else _rolled(item.items, texts)
            is_sum = not isinstance(item, Leaf) and (" + " in inner or " * " in inner)
            terms.append(f"{f'({inner})' if is_sum else inner} * {item.count}")
    return " + ".join(terms)


def _stretches(values: Sequence[int]) -> list[list[int]]:
    """Consecutive numbers together."""
    found: list[list[int]] = []
    for value in values:
        if found and value == found[-1][-1] + 1:
            found[-1].append(value)
        else:
            found.append([value])
    return found


def _items(stretch: list[int]) -> list[str]:
    if len(stretch) < FEW:
        return [str(value) for value in stretch]
    return [f"*range({stretch[0]}, {stretch[-1] + 1})" if stretch[0] else f"*range({stretch[-1] + 1})"]
