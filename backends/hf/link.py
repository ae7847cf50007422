"""Links specialised components: what is reachable, definitions before uses, under the names of one model."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import Factory, define, field, frozen

from eulerc.backends.hf.component_file import ComponentFile, bound_names, component_file
from eulerc.backends.hf.idle_locals import local_names
from eulerc.backends.hf.imports import ImportConflictError, ImportSet
from eulerc.backends.hf.names import names_in, rename, rename_in_docstrings
from eulerc.backends.hf.source_edit import parse
from eulerc.backends.hf.specialise import Facts, SpecialiseError, specialise_statements
from eulerc.ir.extensions import loaded

__all__ = ["Definition", "ImportSet", "LinkError", "Linked", "Request", "link"]


class LinkError(SpecialiseError):
    """A request that the component files cannot meet."""


@frozen
class Request:
    """One use of a component: which of its definitions, on which facts, under which names.

    `component` is the stem of its file. `facts`, `per_layer` and `drop_parameters` are those of `Facts`. `slots` maps
    names that the component reads to the expressions that take their place, which are neither followed nor renamed.
    `rename` maps definitions to their final names; an imported name in it is expected from elsewhere, not imported.
    All of them hold for whatever the definitions reach, too.
    """

    component: str
    names: tuple[str, ...]
    facts: Mapping[str, object] = Factory(dict)
    slots: Mapping[str, str] = Factory(dict)
    rename: Mapping[str, str] = Factory(dict)
    drop_parameters: frozenset[str] = frozenset()
    per_layer: frozenset[str] = frozenset()

    def final(self, name: str) -> str:
        return self.rename.get(name, name)


@frozen
class Definition:
    """A class, function, constant or guarded import, under its final name (the first, if it binds several)."""

    name: str
    text: str


@frozen
class Linked:
    """Definitions in an order in which each stands after those it uses, and the imports they need."""

    imports: ImportSet
    definitions: tuple[Definition, ...]


def link(requests: Sequence[Request], directory: Path) -> Linked:
    """Links the definitions of all requests, each once, helpers right before their first user.

    `directory` holds the component files. Raises LinkError for a request that names what is not there, and for two
    texts under one final name; SpecialiseError for a component that cannot be specialised so.
    """
    linker = _Linker(directory)
    for request in requests:
        linker.link(request)
    for name in sorted(linker.imports.names.intersection(linker.definitions)):
        raise LinkError(linker.origins[name].partition(":")[0], 1, f"{name} is both imported and defined")
    return Linked(linker.imports, tuple(linker.definitions.values()))


@define
class _Linker:
    directory: Path
    imports: ImportSet = Factory(ImportSet)
    definitions: dict[str, Definition] = Factory(dict)
    origins: dict[str, str] = Factory(dict)
    _visited: set[ast.stmt] = field(factory=set, init=False)

    def link(self, request: Request) -> None:
        file = self._file(request.component)
        self._check_slots(request)
        self._visited.clear()
        for name in request.names:
            if name not in file.statements:
                raise LinkError(
                    file.source.name, 1, f"there is no definition {name}, only {', '.join(file.statements)}"
                )
            self._define(file, name, request)

    def _file(self, stem: str) -> ComponentFile:
        path = self.directory / f"{stem}.py"
        extension = loaded(stem)
        if extension is not None and not path.is_file():
            return component_file(parse(extension.component, f"{stem}/component.py"))
        if not path.is_file():
            raise LinkError(path.name, 1, "there is no such component")
        return component_file(parse(path.read_text(encoding="utf-8"), path.name))

    def _check_slots(self, request: Request) -> None:
        """Refuses slots that no file which the component can reach has."""
        missing = set(request.slots)
        seen: list[str] = []
        waiting = [request.component]
        while missing and waiting:
            seen.append(waiting.pop())
            file = self._file(seen[-1])
            missing -= {name for name in missing if file.binds(name)}
            waiting += [stem for stem, _ in file.siblings.values() if stem not in seen]
        if missing:
            raise LinkError(f"{request.component}.py", 1, f"there is no slot {min(missing)}")

    def _define(self, file: ComponentFile, name: str, request: Request) -> None:
        statement = file.statements[name]
        if statement in self._visited:
            return
        self._visited.add(statement)
        facts = Facts(request.facts, request.per_layer, request.drop_parameters)
        text = specialise_statements(file.source, [statement], facts).rstrip("\n")
        used = {used: self._resolve(file, used, request) for used in names_in(text) if file.binds(used)}
        renamed = {old: new for old, new in used.items() if old != new}
        for shadowed in sorted(local_names(text).intersection(renamed) if renamed else ()):
            raise LinkError(file.source.name, statement.lineno, f"{shadowed} of this file is also a local name")
        text = rename_in_docstrings(rename(text, renamed), _renamed_classes(file, request))
        self._record(file, statement, Definition(request.final(next(bound_names(statement))), text))

    def _resolve(self, file: ComponentFile, name: str, request: Request) -> str:
        """The final text of a top-level name, whose definition or import is linked if that needs it."""
        if name in request.slots:
            self._import(file, *names_in(request.slots[name]))
            return request.slots[name]
        if name in file.aliases:
            value = file.aliases[name]
            return rename(value, {part: self._resolve(file, part, request) for part in names_in(value)})
        if name in file.siblings:
            return self._resolve_sibling(file, name, request)
        if name in file.statements:
            self._define(file, name, request)
        elif name not in request.rename:
            self._import(file, name)
        return request.final(name)

    def _resolve_sibling(self, file: ComponentFile, name: str, request: Request) -> str:
        stem, original = file.siblings[name]
        sibling = self._file(stem)
        if not sibling.binds(original):
            raise LinkError(file.source.name, 1, f"{sibling.source.name} has no {original}")
        return self._resolve(sibling, original, request)

    def _import(self, file: ComponentFile, *names: str) -> None:
        imports = [file.imports[name] for name in names if name in file.imports]
        try:
            self.imports = self.imports.add(*imports)
        except ImportConflictError as error:
            raise LinkError(file.source.name, 1, str(error)) from error

    def _record(self, file: ComponentFile, statement: ast.stmt, definition: Definition) -> None:
        origin = f"{file.source.name}:{statement.lineno}"
        known = self.definitions.setdefault(definition.name, definition)
        if known != definition:
            message = f"{definition.name} already has another text, from {self.origins[definition.name]}"
            raise LinkError(file.source.name, statement.lineno, message)
        self.origins.setdefault(definition.name, origin)


def _renamed_classes(file: ComponentFile, request: Request) -> dict[str, str]:
    """The renamed classes that a docstring of the file may name."""
    return {old: new for old, new in request.rename.items() if old[:1].isupper() and file.binds(old)}
