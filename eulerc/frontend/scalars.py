"""The YAML 1.2 core schema (YAML 1.2.2, section 10.3): what a plain scalar stands for."""

from __future__ import annotations

import math
import re

from eulerc.diagnostics.text import shorten
from eulerc.frontend.tree import ScalarValue

MAX_DIGITS = 32
"""No field takes a number near this long; longer ones only serve to exhaust a reader."""

_CONSTANTS: dict[str, ScalarValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_OLD_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_OLD_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*[0-9]")


class UnreadableScalarError(ValueError):
    """A plain scalar that is a number, but none that a field can take."""

    def __init__(self, code: str, message: str, label: str) -> None:
        super().__init__(message)
        self.code, self.message, self.label = code, message, label


def resolve_plain(text: str) -> ScalarValue:
    """The value of a scalar written without quotes.

    Raises UnreadableScalarError for infinities, NaN, and numbers that are too long, too large or too small.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _NOT_FINITE.fullmatch(text):
        raise UnreadableScalarError("E0111", f"`{text}` is not a finite number", "no field takes this value")
    if _INTEGER.fullmatch(text):
        return int(_bounded(text))
    if _OTHER_BASE.fullmatch(text):
        return int(_bounded(text), 0)
    return _read_float(text) if _FLOAT.fullmatch(text) else text


def _bounded(text: str) -> str:
    if len(text) > MAX_DIGITS:
        message = f"`{shorten(text, 24)}` has {len(text)} characters, more than a number may have"
        raise UnreadableScalarError("E0112", message, f"at most {MAX_DIGITS} are read")
    return text


def _read_float(text: str) -> float:
    value = float(_bounded(text))
    if math.isinf(value):
        raise UnreadableScalarError("E0112", f"`{text}` is too large for a number", "the largest is about 1.8e308")
    if value == 0 and re.search("[1-9]", re.split("[eE]", text)[0]):
        raise UnreadableScalarError("E0112", f"`{text}` is too small for a number", "it would be read as 0")
    return value


def older_reading(text: str) -> str | None:
    """What YAML 1.1 made of a string of YAML 1.2, spelled for YAML 1.2: `yes` -> `true`, `32_000` -> `32000`."""
    if text.lower() in _OLD_BOOLEANS:
        return _OLD_BOOLEANS[text.lower()]
    return text.replace("_", "") if _OLD_INTEGER.fullmatch(text) else None
