"""Words for ops and their attributes, from the definitions: a new op reads well without a line here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eulerc.ir.compact import shortened
from eulerc.ir.core import Op, Symbol
from eulerc.ir.definition import definition, definitions
from eulerc.ir.fields import Block, Either, Field
from eulerc.viz.text import one_line

Ropes = Mapping[str, Op]
Fields = Mapping[str, Field]

OTHER_STREAM = "key_value_states"
"""What a layer's graph calls the stream that it reads beside its own."""

QUIET = {"module", "class", "config", "width", "eps", "norm_eps", "inherits_eps", "hands_on", "first_state", "gate_eps"}
QUIET |= {"of", "place", "sublayers", "channels"}
QUIET |= {
    "round",
    "precision",
    "float32",
    "interleaved",
    "float32_weight",
    "router_float32",
    "weights_dtype",
    "dtype",
    "rounding",
}
"""Attributes that do not belong in a picture: names in the generated file, and how numbers are rounded."""

TIMES, DIVISION = "\N{MULTIPLICATION SIGN}", "\N{DIVISION SIGN}"

SYMBOLS: dict[str, Callable[[Op], str]] = {
    "scale": lambda op: f"{DIVISION if op.get('divide') else TIMES} {number(op['by'])}",
    "softcap": lambda op: f"soft cap {number(op['cap'])}",
    "dropout": lambda op: f"dropout {number(op['p'])}",
    "embed": lambda op: f"embedding {number(op['vocab_size'])} \N{MULTIPLICATION SIGN} {number(op['width'])}",
    "embed_positions": lambda op: (
        f"positions {number(op['length'] + op['offset'])} \N{MULTIPLICATION SIGN} {number(op['width'])}"
    ),
    "unembed": lambda op: f"unembedding {number(op['vocab_size'])}" + (" + bias" if op.get("bias") else ""),
}
"""Wiring whose whole meaning fits in its title."""


def title(op: Op) -> str:
    """The name of an op, for people."""
    if op.name in SYMBOLS:
        return SYMBOLS[op.name](op)
    return named(op.name)


def named(name: str) -> str:
    """The name of a definition, for people."""
    kind = definition(name)
    return kind.title or _spaced(kind.__name__)


def _spaced(name: str) -> str:
    """`LatentAttention` as `Latent attention`; names of norms and acronyms stay as they are."""
    first, *others = re.findall(r"[A-Z]+[a-z0-9]*|[a-z0-9]+", name)
    if name.endswith("Norm"):
        return name
    return " ".join([first, *(word if word.isupper() else word.lower() for word in others)])


def details(op: Op, ropes: Ropes) -> list[str]:
    """What there is to say about an op, a phrase each."""
    if op.name in SYMBOLS:
        return []
    kind = definition(op.name)
    given = {name: value for name, value in shortened(op).attributes.items() if not _is_empty(name, value, kind.fields)}
    beside = ["of the other stream"] if any(operand.name == OTHER_STREAM for operand in op.operands) else []
    return [one_line(words, 120) for words in (*beside, *_combined(given), *_single(given, ropes, kind.fields))]


def _combined(given: dict[str, Any]) -> Iterator[str]:
    """Attributes that belong together; each is taken out of `given`."""
    heads, head_dim = given.pop("n_heads", None), given.pop("head_dim", None)
    if heads is not None:
        width = f" \N{MULTIPLICATION SIGN} {number(head_dim)}" if head_dim is not None else ""
        yield counted(heads, "head") + width
    elif head_dim is not None:
        yield f"head dim {number(head_dim)}"
    key_heads = given.pop("n_kv_heads", heads)
    if key_heads != heads:
        yield counted(key_heads, "kv head")
    if "experts" in given and "top_k" in given:
        yield f"top {number(given.pop('top_k'))} of {number(given.pop('experts'))} experts"


def _single(given: dict[str, Any], ropes: Ropes, fields: Fields) -> Iterator[str]:
    for name, value in given.items():
        if isinstance(value, Symbol) and value in ropes:
            yield rope_words(ropes[value])
        else:
            yield phrase(name, value, fields)


def phrase(name: str, value: Any, fields: Fields) -> str:
    """One attribute with its value; `fields` are those it is one of."""
    words = _words(name)
    if value is True:
        return words
    if isinstance(value, dict):
        within = _within(fields.get(name))
        told = (pair for pair in value.items() if not _is_empty(*pair, within) and not _is_usual(*pair, within))
        inner = ", ".join(phrase(*pair, within) for pair in told)
        return f"{words} ({inner})" if inner else words
    if isinstance(value, list):
        return f"{words} {', '.join(map(shown, value)) if len(value) <= 4 else f'of {len(value)} values'}"
    if name.startswith("n_") or name == "experts":
        return f"{number(value)} {words}"
    if isinstance(value, str) and "." in value and value in definitions():
        return named(value)
    return shown(value) if name == "activation" else f"{words} {shown(value)}"


def _words(name: str) -> str:
    return name.removeprefix("n_").replace("_", " ")


def _is_empty(name: str, value: Any, fields: Fields) -> bool:
    is_for_training = name in fields and fields[name].role == "train"
    return name in QUIET or is_for_training or value is None or value is False


def _is_usual(name: str, value: Any, fields: Fields) -> bool:
    return name in fields and fields[name].default == value


def _within(field: Field | None) -> Fields:
    """The fields of a key that holds a mapping."""
    kinds = () if field is None else field.kind.kinds if isinstance(field.kind, Either) else (field.kind,)
    return next((kind.fields for kind in kinds if isinstance(kind, Block)), {})


def rope_words(rope: Op) -> str:
    """A rotary table: its base, its scaling, the share that rotates."""
    scaling = rope.get("scaling") or {}
    parts = [f"rope \N{GREEK SMALL LETTER THETA} {number(rope['theta'])}"]
    if scaling:
        factor = f" \N{MULTIPLICATION SIGN} {number(scaling['factor'])}" if "factor" in scaling else ""
        parts.append(f"{scaling['type']}{factor}")
    if rope.get("partial", 1.0) != 1.0:
        parts.append(f"{number(100 * rope['partial'])} % rotates")
    return ", ".join(parts)


def counted(count: Any, noun: str) -> str:
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def shown(value: Any) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def number(value: Any) -> str:
    """A number with commas, or with four digits that count; what is a range already stays as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return f"{int(value):,}" if abs(value) < 10**12 else f"{value:.3g}"


def rounded(count: int) -> str:
    """`1.236 B` for 1235814400."""
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return str(count)


def size_words(count: int) -> str:
    """Bytes in binary units."""
    for size, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} B"
