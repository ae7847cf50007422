"""Prints a spec tree as YAML 1.2 text that reads as the same tree; what YAML 1.1 would misread stands in quotes."""

from __future__ import annotations

import re

from eulerc.frontend.scalars import UnreadableScalarError, older_reading, resolve_plain
from eulerc.frontend.tree import Mapping, Node, Scalar, ScalarValue

_PLAIN_WORD = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_PLAIN_EXPRESSION = re.compile(r"\$\{[A-Za-z0-9_ .+*/%()<>=,-]*\}")
_UNPRINTABLE = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]')
_MAX_LINE = 100


def as_yaml(root: Mapping) -> str:
    """Block style with two spaces a level; short lists of scalars stand on one line."""
    return "".join(f"{line}\n" for line in _mapping_lines(root))


def _mapping_lines(mapping: Mapping) -> list[str]:
    lines: list[str] = []
    for entry in mapping:
        head = f"{_string(entry.key)}:"
        short = _short(entry.value)
        if short is not None:
            lines.append(f"{head} {short}")
        else:
            lines += [head, *(f"  {line}" for line in _lines(entry.value))]
    return lines


def _lines(node: Node) -> list[str]:
    if isinstance(node, Mapping):
        return _mapping_lines(node)
    if isinstance(node, Scalar):
        return [_scalar(node)]
    lines: list[str] = []
    for item in node.items:
        short = _short(item)
        first, *others = [short] if short is not None else _lines(item)
        lines += [f"- {first}", *(f"  {line}" for line in others)]
    return lines


def _short(node: Node) -> str | None:
    """The node on one line, or None where it needs several."""
    if isinstance(node, Scalar):
        return _scalar(node)
    if isinstance(node, Mapping):
        return None if node.entries else "{}"
    if not all(isinstance(item, Scalar) for item in node.items):
        return None
    line = f"[{', '.join(_in_brackets(item) for item in node.items if isinstance(item, Scalar))}]"
    return line if len(line) <= _MAX_LINE else None


def _in_brackets(scalar: Scalar) -> str:
    text = _scalar(scalar)
    return _quoted(str(scalar.value)) if text.startswith("${") else text


def _scalar(scalar: Scalar) -> str:
    value = scalar.value
    if isinstance(value, str):
        return _string(value)
    if _reads_as(scalar.written, value):
        return scalar.written
    return (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or value is True or value is False
        else repr(value)
    )


def _reads_as(written: str, value: ScalarValue) -> bool:
    """Whether the text as written is a plain scalar of this value; an alias or an empty value is not."""
    try:
        read = resolve_plain(written) if written else written
    except UnreadableScalarError:
        return False
    return type(read) is type(value) and read == value


def _string(text: str) -> str:
    is_word = _PLAIN_WORD.fullmatch(text) is not None and older_reading(text) is None
    if (is_word and _reads_as(text, text)) or _PLAIN_EXPRESSION.fullmatch(text):
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    return '"' + _UNPRINTABLE.sub(_escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    if short is not None:
        return short
    return f"\\u{ord(character):04x}" if character <= "\uffff" else f"\\U{ord(character):08x}"
