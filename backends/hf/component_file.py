"""A component file by its top-level names: what each one is and where it comes from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from attrs import Factory, frozen

from eulerc.backends.hf.imports import Import, imports_of
from eulerc.backends.hf.source_edit import Source, suites

_COMPONENTS = "eulerc.backends.hf.components."


@frozen
class ComponentFile:
    """The top-level names of a component file.

    `statements` holds the definitions, constants and guarded imports; `aliases` the other names of one thing
    (`Norm = nn.LayerNorm`), which are never written out; `siblings` the file and the name of what comes from another
    component; `imports` all other imports.
    """

    source: Source
    statements: dict[str, ast.stmt] = Factory(dict)
    aliases: dict[str, str] = Factory(dict)
    siblings: dict[str, tuple[str, str]] = Factory(dict)
    imports: dict[str, Import] = Factory(dict)

    def binds(self, name: str) -> bool:
        return any(name in names for names in (self.statements, self.aliases, self.siblings, self.imports))


@lru_cache(maxsize=256)
def component_file(source: Source) -> ComponentFile:
    """Sorts the top-level statements. Raises SpecialiseError for one that cannot be linked."""
    file = ComponentFile(source)
    for statement in source.tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            _note_imports(file, statement)
        elif statement is not source.tree.body[0] or not isinstance(statement, ast.Expr):
            _note_statement(file, statement)
    return file


def _note_imports(file: ComponentFile, statement: ast.Import | ast.ImportFrom) -> None:
    for item in imports_of(statement):
        if not item.module.startswith(_COMPONENTS):
            file.imports[item.local] = item
        elif item.name is None:
            raise file.source.error(statement, f"import the names of {item.module}, not the module")
        else:
            file.siblings[item.local] = (item.module.removeprefix(_COMPONENTS), item.name)


def _note_statement(file: ComponentFile, statement: ast.stmt) -> None:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if _is_alias(name, value):
            file.aliases[name] = file.source.segment(file.source.extent(value))
            return
    names = tuple(bound_names(statement))
    if not names:
        raise file.source.error(statement, "a top-level statement that binds no name cannot be linked")
    file.statements.update(dict.fromkeys(names, statement))


def _is_alias(name: str, value: ast.expr) -> bool:
    """Whether `name = value` only gives something another name; names in capitals are constants."""
    while isinstance(value, ast.Attribute):
        value = value.value
    return isinstance(value, ast.Name) and not name.isupper()


def forward_parameters(file: ComponentFile, class_name: str) -> dict[str, str]:
    """The named parameters of a class's `forward`, without `self`, each with its annotation as written.

    Raises KeyError if there is no such class.
    """
    statement = file.statements[class_name]
    assert isinstance(statement, ast.ClassDef), class_name
    forward = next(item for item in statement.body if isinstance(item, ast.FunctionDef) and item.name == "forward")
    arguments = forward.args.args[1:] + forward.args.kwonlyargs
    return {argument.arg: _annotation(file.source, argument) for argument in arguments}


def _annotation(source: Source, argument: ast.arg) -> str:
    return "" if argument.annotation is None else source.segment(source.extent(argument.annotation))


def bound_names(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement binds, in order."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Import() | ast.ImportFrom():
            yield from (item.local for item in imports_of(statement))
        case ast.If() | ast.Try():
            for suite in suites(statement):
                for inner in suite:
                    yield from bound_names(inner)
