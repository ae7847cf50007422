"""What the printer and the parser of the textual IR must agree on: words, limits, names and which sizes have names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain

from eulerc.ir.core import Attribute, Dim, Extent, Module, Op

VERSION = 1
STAGES = ("arch", "layers", "module")

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 64
# A list of lists may be written deeper than it is, as a nest of repetitions; the text's own bound leaves room for it.
MAX_VALUE_DEPTH = 16
MAX_EXPANDED_ITEMS = 100_000
MAX_SYNTAX_ERRORS = 10
MAX_ERRORS = 100
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**64 - 1

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_0-9]+)*")
RUNTIME_EXTENT = re.compile(rf"{NAME.pattern}|{IDENTIFIER.pattern}(?:(?:<=|[-+*/])[A-Za-z_0-9]+)+")
RESERVED_OPS = frozenset({"dim"})
RESERVED_DTYPES = frozenset({"carries", "loc"})
WORDS: dict[str, Attribute] = {"true": True, "false": False, "null": None}

_VALUE_NAME = re.compile(r"[A-Za-z_0-9][A-Za-z_0-9.]*")
_SYMBOL_NAME = re.compile(r"[A-Za-z_0-9][A-Za-z_0-9.-]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
# A fixed list rather than str.isprintable, whose answer changes with Python's Unicode tables. It holds control
# characters, invisible ones, those that reorder text, and surrogates, which UTF-8 cannot hold.
_INVISIBLE = re.compile(
    "[\x7f-\xa0\xad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\uffff"
    "\U000e0000-\U000e0fff]"
)


def quoted(text: str) -> str:
    """A JSON string; characters that cannot be seen are escaped."""
    return _INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], json.dumps(text, ensure_ascii=False))


def value_name(name: str) -> str:
    return f"%{name}" if _VALUE_NAME.fullmatch(name) else f"%{quoted(name)}"


def symbol_name(name: str) -> str:
    return f"@{name}" if _SYMBOL_NAME.fullmatch(name) else f"@{quoted(name)}"


def key_name(key: str) -> str:
    return key if NAME.fullmatch(key) else quoted(key)


def has_surrogates(text: str) -> bool:
    """Whether a string holds halves of characters, which no file in UTF-8 can."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def shortened(text: str) -> str:
    """A text as an error message may hold it."""
    return text if len(text) <= 40 else text[:37] + "..."


def is_dim_name(name: str) -> bool:
    """Whether a `Dim` of this name can stand in the text as a bare word."""
    return IDENTIFIER.fullmatch(name) is not None and name not in WORDS and name != "inf"


def extents(module: Module) -> Iterator[Extent]:
    """Every dimension of every type and every `Dim` among the attributes, in the order of the text."""
    for op in module.model.walk():
        yield from extents_of(op)


def extents_of(op: Op) -> Iterator[Extent]:
    if op.body is not None:
        yield from chain.from_iterable(argument.type.dims for argument in op.body.arguments)
    yield from _dims_within(list(op.attributes.values()))
    yield from chain.from_iterable(result.type.dims for result in op.results)
    yield from chain.from_iterable(state.dims for state in op.carries)


def _dims_within(value: object) -> Iterator[Dim]:
    if isinstance(value, Dim):
        yield value
    elif isinstance(value, dict):
        yield from _dims_within(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _dims_within(item)


def sizes_by_name(module: Module) -> dict[str, set[int]]:
    """For each name of a `Dim`, in order of first use, its sizes: more than one is a fault."""
    sizes: dict[str, set[int]] = {}
    for extent in extents(module):
        if isinstance(extent, Dim):
            sizes.setdefault(extent.name, set()).add(int(extent))
    return sizes


def runtime_names(module: Module) -> set[str]:
    """The run-time dimensions (`b`, `t`) that the types of a module use."""
    return {extent for extent in extents(module) if isinstance(extent, str)}
