"""Sets of import statements, printed in the order that ruff's isort rules want."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby

from attrs import field, frozen

from eulerc.backends.hf.source_edit import LINE_LENGTH

_RUN = re.compile(r"\d+|\D")
_Order = tuple[tuple[int, int], ...]


class ImportConflictError(ValueError):
    """Two imports give one name to different things."""


@frozen
class Import:
    """One name that a module imports: `import module`, or `from module import name`, perhaps under an alias.

    The module of a relative import begins with its dots.
    """

    module: str
    name: str | None = None
    alias: str | None = None

    @property
    def local(self) -> str:
        """The name it binds."""
        return self.alias or self.name or self.module.partition(".")[0]

    @property
    def target(self) -> str:
        """What the name means; `import a.b` binds the package `a` only."""
        if self.name is not None:
            return f"{self.module}.{self.name}"
        return self.module if self.alias else self.local

    @property
    def clause(self) -> str:
        """What stands behind the word `import`."""
        return (self.name or self.module) + (f" as {self.alias}" if self.alias else "")

    @property
    def section(self) -> int:
        root = self.module.partition(".")[0]
        if root == "__future__":
            return 0
        if root in sys.stdlib_module_names:
            return 1
        return 2 if root else 3

    @property
    def order(self) -> tuple[object, ...]:
        """The place within a section: plain imports first; constants, classes and other names of one module apart."""
        name = self.name or ""
        rank = 0 if len(name) > 1 and name.isupper() else 1 if name[:1].isupper() else 2
        member = (rank, _natural(name.lower()), _natural(name))
        module = (_natural(self.module.lower()), _natural(self.module))
        return (self.name is not None, *module, *member, _natural(self.alias or ""))


def imports_of(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    """The names that one statement imports, those of `__future__` excepted."""
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield Import(alias.name, None, alias.asname)
        elif node.module != "__future__":
            yield Import("." * node.level + (node.module or ""), alias.name, alias.asname)


def _by_name(imports: Iterable[Import]) -> frozenset[Import]:
    found: dict[str, Import] = {}
    for item in imports:
        other = found.setdefault(item.local, item)
        if other.target != item.target:
            first, second = sorted((other.target, item.target))
            raise ImportConflictError(f"{item.local} is imported as {first} and as {second}")
    return frozenset(imports)


@frozen
class ImportSet:
    """What a module imports. Raises ImportConflictError where one name would mean two things."""

    imports: frozenset[Import] = field(default=frozenset(), converter=_by_name)

    @classmethod
    def parse(cls, text: str) -> ImportSet:
        """The imports of some import statements."""
        nodes = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
        return cls(frozenset(item for node in nodes for item in imports_of(node)))

    def add(self, *imports: Import) -> ImportSet:
        return ImportSet(self.imports.union(imports))

    def merge(self, other: ImportSet) -> ImportSet:
        return self.add(*other.imports)

    @property
    def names(self) -> frozenset[str]:
        """The names that the imports bind."""
        return frozenset(item.local for item in self.imports)

    def render(self) -> str:
        """The statements, a blank line between sections, without a line end behind the last."""
        items = sorted(self.imports, key=lambda item: (item.section, item.order))
        sections = groupby(items, key=lambda item: item.section)
        return "\n\n".join("\n".join(_statements(section)) for _, section in sections)


def _statements(imports: Iterable[Import]) -> Iterator[str]:
    """One statement for each `import`, each alias, and the other names of each module."""
    statements: dict[tuple[str, str], list[Import]] = {}
    for item in imports:
        apart = item.clause if item.name is None or item.alias else ""
        statements.setdefault((item.module, apart), []).append(item)
    for group in statements.values():
        yield _statement(group)


def _statement(group: list[Import]) -> str:
    clauses = [item.clause for item in group]
    if group[0].name is None:
        return f"import {clauses[0]}"
    line = f"from {group[0].module} import {', '.join(clauses)}"
    if len(line) <= LINE_LENGTH:
        return line
    return "\n".join((f"from {group[0].module} import (", *(f"    {clause}," for clause in clauses), ")"))


def _natural(text: str) -> _Order:
    """An order in which the numbers in names count as numbers."""
    return tuple((ord("0"), int(run)) if run.isdecimal() else (ord(run), 0) for run in _RUN.findall(text))
