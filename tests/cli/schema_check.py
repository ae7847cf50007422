"""The part of JSON Schema 2020-12 that `eulerc schema` uses; any other keyword is an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
ANNOTATIONS = {"$schema", "$defs", "title", "description", "default"}


def complaints(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "$") -> Iterator[str]:
    """Why `value` does not fit; nothing if it does."""
    for keyword in schema.keys() - ANNOTATIONS:
        for complaint in CHECKS[keyword](value, schema, root, path):
            yield f"{path}: {complaint}" if complaint.startswith("not ") else complaint


def _fits(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> bool:
    return next(complaints(value, schema, root, path), None) is None


def _type(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(TYPES[kind](value) for kind in kinds):
        yield f"not of type {kinds}"


def _reference(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    target = root
    for step in schema["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    yield from complaints(value, target, root, path)


def _any_of(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    if not any(_fits(value, each, root, path) for each in schema["anyOf"]):
        yield "not any of the alternatives"


def _one_of(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    if sum(_fits(value, each, root, path) for each in schema["oneOf"]) != 1:
        yield "not exactly one of the alternatives"


def _properties(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    for name, each in schema["properties"].items():
        if isinstance(value, dict) and name in value:
            yield from complaints(value[name], each, root, f"{path}.{name}")


def _other_properties(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    patterns = schema.get("patternProperties", {})
    for name in value if isinstance(value, dict) else ():
        if name in schema.get("properties", {}) or any(re.search(pattern, name) for pattern in patterns):
            continue
        if schema["additionalProperties"] is False:
            yield f"not a known property: {name}"
        else:
            yield from complaints(value[name], schema["additionalProperties"], root, f"{path}.{name}")


def _items(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from complaints(item, schema["items"], root, f"{path}[{index}]")


def _rule(keyword: str, holds: Callable[[Any, Any], bool]) -> Callable[..., Iterator[str]]:
    def check(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
        if not holds(value, schema[keyword]):
            yield f"not within {keyword} {schema[keyword]}"

    return check


def _number(value: Any) -> bool:
    return TYPES["number"](value)


CHECKS: dict[str, Callable[..., Iterator[str]]] = {
    "type": _type,
    "$ref": _reference,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "properties": _properties,
    "additionalProperties": _other_properties,
    "patternProperties": lambda *_: iter(()),
    "items": _items,
    "const": _rule("const", lambda value, bound: value == bound and type(value) is type(bound)),
    "enum": _rule("enum", lambda value, bound: value in bound),
    "minimum": _rule("minimum", lambda value, bound: not _number(value) or value >= bound),
    "maximum": _rule("maximum", lambda value, bound: not _number(value) or value <= bound),
    "exclusiveMaximum": _rule("exclusiveMaximum", lambda value, bound: not _number(value) or value < bound),
    "exclusiveMinimum": _rule("exclusiveMinimum", lambda value, bound: not _number(value) or value > bound),
    "maxItems": _rule("maxItems", lambda value, bound: not isinstance(value, list) or len(value) <= bound),
    "minItems": _rule("minItems", lambda value, bound: not isinstance(value, list) or len(value) >= bound),
    "maxLength": _rule("maxLength", lambda value, bound: not isinstance(value, str) or len(value) <= bound),
    "pattern": _rule("pattern", lambda value, bound: not isinstance(value, str) or bool(re.search(bound, value))),
    "required": _rule("required", lambda value, bound: not isinstance(value, dict) or value.keys() >= set(bound)),
}
