"""Drops parameters of methods that a use of a component does not take, and the arguments that pass them on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import zip_longest

from eulerc.backends.hf.source_edit import Edits, Extent, Source

METHODS = ("__init__", "forward")


def drop_parameters(edits: Edits, function: ast.FunctionDef, names: frozenset[str]) -> frozenset[str]:
    """Drops the parameters called `names` of an `__init__` or `forward`, and returns those it had.

    Raises SpecialiseError where that would leave a bare `*` without parameters behind it.
    """
    if function.name not in METHODS or not names:
        return frozenset()
    arguments = function.args
    keyword_only = arguments.kwonlyargs
    if keyword_only and arguments.vararg is None and names.issuperset(name.arg for name in keyword_only):
        raise edits.source.error(keyword_only[0], f"{keyword_only[0].arg} is the last keyword-only parameter")
    dropped = [(name, extent) for name, extent in _parameters(edits.source, arguments) if name in names]
    for _, extent in dropped:
        if not _remove_own_lines(edits, extent):
            edits.replace(Extent(edits.source.text.rindex(",", 0, extent.start), extent.end), "")
    return frozenset(name for name, _ in dropped)


def drop_arguments(edits: Edits, call: ast.Call, names: frozenset[str]) -> frozenset[ast.AST]:
    """Drops the arguments `x` and `x=x` of a call for the dropped parameters `names`, and returns their nodes."""
    items: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
    dropped = frozenset(item for item in items if _passes_on(item, names))
    if not dropped:
        return dropped
    if len(dropped) == len(items):
        opening = edits.source.text.index("(", edits.source.extent(call.func).end)
        edits.replace(Extent(opening + 1, edits.source.extent(call).end - 1), "")
        return dropped
    extents = [edits.source.extent(item) for item in items]
    for index, item in enumerate(items):
        if item in dropped and not _remove_own_lines(edits, extents[index]):
            kept_before = not dropped.issuperset(items[:index])
            start = extents[index - 1].end if kept_before else extents[index].start
            edits.replace(Extent(start, extents[index].end if kept_before else extents[index + 1].start), "")
    return dropped


def _parameters(source: Source, arguments: ast.arguments) -> Iterator[tuple[str, Extent]]:
    """The parameters that have names, each with the extent of its name, annotation and default."""
    positional = [*arguments.posonlyargs, *arguments.args]
    with_defaults = zip_longest(reversed(positional), reversed(arguments.defaults))
    for parameter, default in [*with_defaults, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
        end = source.extent(parameter if default is None else default).end
        yield parameter.arg, Extent(source.extent(parameter).start, end)


def _passes_on(item: ast.expr | ast.keyword, names: frozenset[str]) -> bool:
    match item:
        case ast.keyword(arg=keyword, value=ast.Name(id=name)):
            return keyword == name and name in names
        case ast.Name(id=name):
            return name in names
    return False


def _remove_own_lines(edits: Edits, extent: Extent) -> bool:
    """Removes an item that has its lines to itself, a comma behind it; False when it has not."""
    source = edits.source
    first, last = source.line_of(extent.start), source.line_of(extent.end)
    before = source.text[source.starts[first - 1] : extent.start]
    after = source.text[extent.end : source.starts[last]]
    alone = not before.strip() and after.startswith(",") and not after[1:].split("#")[0].strip()
    if alone:
        edits.remove_lines(first, last)
    return alone
