"""`${...}`: finds expressions in a spec tree and puts their values in their place.

The language and its limits stand in `grammar/expr.lark`, `syntax` and `arithmetic`, which are imported only when a
spec holds an expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import evolve

from eulerc.diagnostics.model import Diagnostics
from eulerc.diagnostics.text import shorten
from eulerc.frontend.environment import Environment, ExpressionError
from eulerc.frontend.locate import locate
from eulerc.frontend.tree import Entry, Mapping, Node, Scalar, Sequence
from eulerc.ir.span import Span

if TYPE_CHECKING:
    from lark import Token, Tree

_WHOLE = re.compile(r"\s*\$\{([^{}]*)\}\s*")
_LAYER_INDEX = re.compile(r"\blayer\s*\.\s*index\b")


def is_expression(node: Node | None) -> bool:
    """Whether a node is a `${...}` that has no value yet (or a string that wrongly contains one)."""
    return isinstance(node, Scalar) and isinstance(node.value, str) and "${" in node.value


def resolve(node: Node, environment: Environment, diagnostics: Diagnostics) -> Node:
    """The tree with every `${...}` replaced by its value; spans and `written` stay.

    A wrong expression is reported at its column and left as it is; the place counts as reported, so that nobody
    complains of a string there.
    """
    if isinstance(node, Scalar):
        return _resolve_scalar(node, environment, diagnostics) if is_expression(node) else node
    if isinstance(node, Sequence):
        return evolve(node, items=tuple(resolve(item, environment, diagnostics) for item in node.items))
    return Mapping(tuple(_resolve_entry(entry, environment, diagnostics) for entry in node), node.span)


def _resolve_entry(entry: Entry, environment: Environment, diagnostics: Diagnostics) -> Entry:
    _refuse_in_key(entry, diagnostics)
    return evolve(entry, value=resolve(entry.value, environment, diagnostics))


def _resolve_scalar(scalar: Scalar, environment: Environment, diagnostics: Diagnostics) -> Scalar:
    tree = _checked(scalar, environment, diagnostics, is_deferred=False)
    if tree is None or any(name in environment.failed for name, _, _ in _names(tree)):
        diagnostics.mark_unreadable(scalar.span)
        return scalar
    from eulerc.frontend.arithmetic import evaluate

    text, offset = _inner(scalar)
    try:
        return evolve(scalar, value=evaluate(tree, text, environment))
    except ExpressionError as error:
        _report(error, scalar, offset, diagnostics)
        diagnostics.mark_unreadable(scalar.span)
        return scalar


def check(node: Node, environment: Environment, diagnostics: Diagnostics) -> None:
    """Report what is wrong with the expressions of a subtree whatever `params.*` and `layer.*` will be."""
    for entry in _entries(node):
        _refuse_in_key(entry, diagnostics)
    for scalar in expressions(node):
        if _checked(scalar, environment, diagnostics, is_deferred=True) is None:
            diagnostics.mark_unreadable(scalar.span)


def mentions_layer(node: Node) -> bool:
    """Whether `layer.index` occurs in an expression of the subtree."""
    return any(_LAYER_INDEX.search(str(scalar.value)) for scalar in expressions(node))


def names_in(node: Node) -> frozenset[str]:
    """The names (`let.x`) in the well-formed expressions of a subtree."""
    return frozenset(name for name, _ in places_of_names(node))


def places_of_names(node: Node) -> list[tuple[str, Span]]:
    """The names in the well-formed expressions of a subtree, in the order written, each with its place."""
    places = []
    for scalar in expressions(node):
        try:
            _, offset = _inner(scalar)
            names = _names(_parse(scalar))
        except ExpressionError:
            continue
        places += [(name, locate(scalar, start + offset, end + offset)) for name, start, end in names]
    return places


def expressions(node: Node) -> Iterator[Scalar]:
    """The scalars of a subtree that hold `${`, in the order written."""
    if isinstance(node, Scalar):
        if is_expression(node):
            yield node
        return
    for child in node.items if isinstance(node, Sequence) else (entry.value for entry in node):
        yield from expressions(child)


def _entries(node: Node) -> Iterator[Entry]:
    if isinstance(node, Mapping):
        yield from node
    if not isinstance(node, Scalar):
        for child in node.items if isinstance(node, Sequence) else (entry.value for entry in node):
            yield from _entries(child)


def _inner(scalar: Scalar) -> tuple[str, int]:
    """The text between `${` and `}`, and its offset within the value."""
    value = str(scalar.value)
    match = _WHOLE.fullmatch(value)
    if match is not None:
        return match[1], match.start(1)
    text = shorten(value)
    if value.strip().startswith("${") and "}" not in value:
        message, hint = f"`{text}` has no closing `}}`", "close the expression with }"
    else:
        message = f"`{text}` mixes `${{...}}` with other text"
        hint = "a value is either plain text or one ${...}; text cannot be put together"
    raise ExpressionError("E0402", message, 0, len(value.rstrip()), "not one `${...}` as a whole", hint)


def _parse(scalar: Scalar) -> Tree[Token]:
    text, _ = _inner(scalar)
    from eulerc.frontend.syntax import parse

    return parse(text)


def _names(tree: Tree[Token]) -> list[tuple[str, int, int]]:
    from eulerc.frontend.syntax import names_of

    return names_of(tree)


def _checked(
    scalar: Scalar, environment: Environment, diagnostics: Diagnostics, *, is_deferred: bool
) -> Tree[Token] | None:
    """The tree of an expression whose names and calls are all known; None after a report."""
    offset = 0
    try:
        _, offset = _inner(scalar)
        tree = _parse(scalar)
    except ExpressionError as error:
        _report(error, scalar, offset, diagnostics)
        return None
    from eulerc.frontend.syntax import static_errors

    found = list(static_errors(tree, environment, is_deferred))
    for each in found:
        _report(each, scalar, offset, diagnostics)
    return None if found else tree


def _report(error: ExpressionError, scalar: Scalar, offset: int, diagnostics: Diagnostics) -> None:
    span = locate(scalar, error.start + offset, error.end + offset)
    diagnostics.error(error.code, error.message, span, error.label, help=error.help)


def _refuse_in_key(entry: Entry, diagnostics: Diagnostics) -> None:
    if "${" in entry.key:
        message = f"key `{shorten(entry.key)}` holds an expression"
        diagnostics.error("E0409", message, entry.key_span, "keys are fixed names", help="write the name out")
