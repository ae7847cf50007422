"""Extensions: definitions and components from outside the compiler, for specs that name them.

They stand apart from the compiler's own: nothing that lists definitions sees them, and only a module that has an
`extension` op for them may use them. `eulerc.extensions` reads them from files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from eulerc.ir.core import Module
    from eulerc.ir.definition import Definition
    from eulerc.ir.fields import Field


@frozen
class Extension:
    """One extension: `written` is how specs name it, `stem` the name of its component.

    `component` is the component's source. `files` maps paths relative to the spec's folder to the bytes of the two
    files, and is empty for an installed package; `digests` maps what the manifest calls them to SHA-256 digests.
    """

    written: str
    stem: str
    component: str
    files: Mapping[str, bytes]
    digests: Mapping[str, str]
    definitions: Mapping[str, type[Definition]] = field(factory=dict)


_LOADED: dict[str, Extension] = {}
_DEFINITIONS: dict[str, type[Definition]] = {}
_COLLECTED: list[list[type[Definition]]] = []


def collected(run: Callable[[], None]) -> list[type[Definition]]:
    """The definitions that are registered while `run` runs: they stay out of the compiler's own."""
    found: list[type[Definition]] = []
    _COLLECTED.append(found)
    try:
        run()
    finally:
        _COLLECTED.pop()
    return found


def collects(definition: type[Definition]) -> bool:
    """Whether a definition that is being registered belongs to an extension; it is kept for it then."""
    if _COLLECTED:
        _COLLECTED[-1].append(definition)
    return bool(_COLLECTED)


def install(extension: Extension) -> None:
    """Makes an extension known; one of the same stem gives way."""
    known = _LOADED.get(extension.stem)
    for name in known.definitions if known is not None else ():
        _DEFINITIONS.pop(name, None)
    _LOADED[extension.stem] = extension
    _DEFINITIONS.update(extension.definitions)


def loaded(stem: str) -> Extension | None:
    """The extension whose component has this name."""
    return _LOADED.get(stem)


def extension_definition(name: str) -> type[Definition] | None:
    """The definition of that name in some extension."""
    return _DEFINITIONS.get(name)


def extension_field(name: str) -> Field | None:
    """The field of an extension's definition whose number stands in the config under this name."""
    fields = (field for kind in _DEFINITIONS.values() for field in kind.fields.values())
    return next((field for field in fields if field.config == name), None)


def extensions_of(module: Module) -> list[Extension]:
    """The extensions that a module names, in order."""
    found = (loaded(str(op["component"])) for op in module.all("extension"))
    return [extension for extension in found if extension is not None]
