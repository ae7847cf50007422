"""Locals that nothing reads once the facts are folded."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator, Mapping, Sequence

from eulerc.backends.hf.fold_parameters import METHODS
from eulerc.backends.hf.source_edit import Edits, Source, SpecialiseError, end_line, read_source

_Function = tuple[str, int]


def settle_locals(text: str, source: Source, statements: Sequence[ast.stmt], dropped: frozenset[str]) -> str:
    """Removes from folded text the copies that nothing reads any more (`config = self.config`).

    Raises SpecialiseError, at the line in `source`, whose `statements` were folded, for a local that is computed in
    vain and for a parameter that was dropped and is still read.
    """
    while True:
        table = symtable.symtable(text, source.name, "exec")
        idle = dict(_idle_locals(table))
        if not idle:
            break
        settled = _remove_copies(text, idle)
        if settled == text:
            break
        text = settled
    for name in sorted(_dropped_reads(table, dropped)):
        raise _error(source, statements, name, ast.Load, f"the parameter {name} is dropped and still read")
    for name in _computed_in_vain(text, idle) if idle else ():
        message = f"{name} is never read once the facts are folded: assign it in the branch that reads it"
        raise _error(source, statements, name, ast.Store, message)
    return text


def local_names(text: str) -> frozenset[str]:
    """The names that the functions and classes of a module bind within themselves."""
    tables = [symtable.symtable(text, "<text>", "exec")]
    names: set[str] = set()
    while tables:
        children = tables.pop().get_children()
        names.update(symbol.get_name() for child in children for symbol in child.get_symbols() if symbol.is_local())
        tables += children
    return frozenset(names)


def _idle_locals(table: symtable.SymbolTable) -> Iterator[tuple[_Function, frozenset[str]]]:
    """The locals that are assigned and never read, by the name and line of their function."""
    for child in table.get_children():
        yield from _idle_locals(child)
        if child.get_type() == "function":
            names = frozenset(symbol.get_name() for symbol in child.get_symbols() if _is_idle(symbol))
            names -= {name for inner in child.get_children() for name in _names_read(inner)}
            if names:
                yield (child.get_name(), child.get_lineno()), names


def _is_idle(symbol: symtable.Symbol) -> bool:
    bound = symbol.is_assigned() and symbol.is_local() and not symbol.is_parameter()
    return bound and not symbol.is_referenced() and not symbol.get_name().startswith("_")


def _names_read(table: symtable.SymbolTable) -> Iterator[str]:
    """The names that a scope takes from the scopes around it."""
    for symbol in table.get_symbols():
        if symbol.is_free() or symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _names_read(child)


def _dropped_reads(table: symtable.SymbolTable, dropped: frozenset[str]) -> Iterator[str]:
    """The dropped parameters that a method reads, which then are names of the module."""
    if not dropped:
        return
    for child in table.get_children():
        if child.get_name() in METHODS:
            yield from dropped.intersection(_names_read(child))
        yield from _dropped_reads(child, dropped)


def _functions(tree: ast.Module, idle: Mapping[_Function, frozenset[str]]) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """The functions with idle locals; `x += 1` and `del x` count as reads here, though not in a symbol table."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.name, node.lineno) in idle:
            yield node, idle[node.name, node.lineno].difference(_changed_names(node))


def _changed_names(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        match node:
            case ast.AugAssign(target=ast.Name(id=name)) | ast.Name(id=name, ctx=ast.Del()):
                yield name


def _remove_copies(text: str, idle: Mapping[_Function, frozenset[str]]) -> str:
    source = read_source(text, "<folded>")
    edits = Edits(source)
    for function, names in _functions(source.tree, idle):
        for holder in ast.walk(function):
            # The body of a lambda or a conditional expression is no suite
            parts = (getattr(holder, field, ()) for field in ("body", "orelse", "finalbody"))
            for suite in (part for part in parts if isinstance(part, list)):
                copies = [node for node in suite if _is_copy(node, names)]
                # A suite of nothing but idle copies is left for the check that follows
                for copy in copies if len(copies) < len(suite) else ():
                    edits.remove_lines(source.first_line(copy), end_line(copy))
    return edits.render(1, len(source.lines)) if edits.removed else text


def _is_copy(node: ast.stmt, names: frozenset[str]) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in names:
            while isinstance(value, ast.Attribute):
                value = value.value
            return isinstance(value, ast.Name | ast.Constant)
    return False


def _computed_in_vain(text: str, idle: Mapping[_Function, frozenset[str]]) -> Iterator[str]:
    """The idle locals that an assignment binds; a name among several of a tuple may be idle when another is not."""
    for function, names in _functions(ast.parse(text), idle):
        for node in ast.walk(function):
            targets = node.targets if isinstance(node, ast.Assign) else ()
            targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
            for target in targets:
                bound = {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
                if bound and names.issuperset(bound):
                    yield min(bound)


def _error(
    source: Source, statements: Sequence[ast.stmt], name: str, context: type[ast.expr_context], message: str
) -> SpecialiseError:
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, context):
                return source.error(node, message)
    return source.error(statements[0], message)
