"""Reads the extensions that a spec names: a folder beside it, where the caller allows that, or an installed package.

An extension is a folder of two files: `definition.py` registers definitions, `component.py` holds the module that is
linked into the generated file. Its Python runs in the compiler, so a folder beside a spec is only read with
`--allow-extensions`, or where `[tool.eulerc] extensions` of the caller's own pyproject.toml names it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen

from eulerc.diagnostics.model import Diagnostics
from eulerc.diagnostics.text import shorten
from eulerc.frontend.files import read_bytes, resolved
from eulerc.ir.core import Op
from eulerc.ir.definition import Definition, by_axis, definitions
from eulerc.ir.extensions import Extension, collected, install, loaded
from eulerc.ir.span import Span

DEFINITION, COMPONENT = "definition.py", "component.py"
GROUP = "eulerc.extensions"
AXES = ("mixer", "ffn")
STEM = re.compile(r"[a-z][a-z0-9_]{0,63}")


@frozen
class Place:
    """Where relative paths start from, None where there is no folder; and whether the caller allows what is there."""

    base: Path | None
    is_allowed: bool = False


def extension_ops(extensions: Iterable[Extension], span: Span) -> list[Op]:
    """The ops by which a module names its extensions."""
    ops = []
    for item in extensions:
        attributes: dict[str, Any] = {"written": item.written, "component": item.stem, "digests": dict(item.digests)}
        ops.append(Op("extension", attributes=attributes, span=span))
    return ops


def read_extensions(written: list[tuple[str, Span]], place: Place, diagnostics: Diagnostics) -> list[Extension]:
    """The extensions of those names; what cannot be had is reported."""
    found = []
    for name, span in written:
        extension = _read(name, span, place, diagnostics)
        if extension is not None:
            found.append(extension)
    return found


def _read(name: str, span: Span, place: Place, diagnostics: Diagnostics) -> Extension | None:
    is_path = "/" in name or name.startswith(".")
    folder = _beside(name, span, place, diagnostics) if is_path else _installed(name, span, diagnostics)
    if folder is None:
        return None
    stem = folder.name
    if not STEM.fullmatch(stem):
        message = f"an extension cannot be called {shorten(stem)!r}"
        help = "rename the folder, to pooling for instance"
        diagnostics.error("E0776", message, span, "lower-case letters, digits and _ only", help=help)
        return None
    sources = {}
    for file in (DEFINITION, COMPONENT):
        data = read_bytes(folder / file, only_regular=True)
        if isinstance(data, str):
            message, help = (
                f"{name} has no {file}: {data}",
                f"an extension is a folder with {DEFINITION} and {COMPONENT}",
            )
            diagnostics.error("E0776", message, span, "named here", help=help)
            return None
        sources[file] = data
    return _loaded(_extension(name, stem, sources, is_path), folder, span, diagnostics)


def _extension(name: str, stem: str, sources: dict[str, bytes], is_path: bool) -> Extension:
    prefix = name.removeprefix("./").rstrip("/")
    return Extension(
        written=name,
        stem=stem,
        component=sources[COMPONENT].decode("utf-8", "replace"),
        files={f"{prefix}/{file}": data for file, data in sources.items()} if is_path else {},
        digests={f"{prefix}/{file}": sha256(data).hexdigest() for file, data in sources.items()},
    )


def _beside(name: str, span: Span, place: Place, diagnostics: Diagnostics) -> Path | None:
    """The folder of a relative path, if it lies below the spec's and the caller allows it."""
    root = None if place.base is None else resolved(place.base)
    folder = None if root is None else resolved(root / name)
    if root is None or folder is None or not folder.is_relative_to(root) or "\\" in name or Path(name).is_absolute():
        message = f"{shorten(name)!r} is no folder below that of the spec"
        diagnostics.error("E0776", message, span, "named here", help="copy the folder beside the spec: ./pooling")
        return None
    if not folder.is_dir():
        message = f"there is no folder {shorten(name)}"
        diagnostics.error("E0776", message, span, "named here", help="paths start from the folder of the spec")
        return None
    if not place.is_allowed and not _is_trusted(folder):
        diagnostics.error(
            "E0775",
            f"extension {name} is not allowed",
            span,
            "its Python would run in the compiler",
            help="read it, then pass --allow-extensions, or name it in [tool.eulerc] extensions of your pyproject.toml",
        )
        return None
    return folder


def _is_trusted(folder: Path) -> bool:
    """Whether the pyproject.toml nearest to the working directory lists the folder, or allows all."""
    import tomllib

    for parent in (Path.cwd(), *Path.cwd().parents):
        file = parent / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            allowed: Any = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("eulerc", {})
        except (OSError, UnicodeError, tomllib.TOMLDecodeError):
            return False
        listed = allowed.get("extensions", []) if isinstance(allowed, dict) else []
        if isinstance(listed, bool):
            return listed
        return any(resolved(parent / item) == folder for item in listed if isinstance(item, str))
    return False


def _installed(name: str, span: Span, diagnostics: Diagnostics) -> Path | None:
    """The folder of the package behind an entry point."""
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    for point in entry_points(group=GROUP, name=name):
        package = find_spec(point.module)
        for place in (package.submodule_search_locations or ()) if package is not None else ():
            return Path(place)
    known = sorted(point.name for point in entry_points(group=GROUP))
    diagnostics.error(
        "E0776",
        f"no installed package has an extension {name}",
        span,
        "named here",
        help=f"installed are {', '.join(known)}" if known else f"a folder beside the spec is written ./{name}",
    )
    return None


def _loaded(extension: Extension, folder: Path, span: Span, diagnostics: Diagnostics) -> Extension | None:
    """The extension with its definitions: run once, and again when a file has changed."""
    known = loaded(extension.stem)
    if known is not None and (known.digests, known.written) == (extension.digests, extension.written):
        return known
    complaint = _complaint_of_component(extension)
    kinds: list[type[Definition]] = []
    if complaint is None:
        try:
            kinds = collected(lambda: _run(folder / DEFINITION, extension.stem))
        except Exception as error:  # whatever its author wrote
            complaint = f"{type(error).__name__}: {error}{_line_of(error, folder)}"
    complaint = complaint or next(_complaints(extension.stem, kinds), None)
    if complaint is not None:
        message = f"extension {extension.written} cannot be loaded"
        diagnostics.error("E0777", message, span, shorten(" ".join(complaint.split()), 300))
        return None
    from attrs import evolve

    extension = evolve(extension, definitions={kind.name: kind for kind in kinds})
    install(extension)
    return extension


def _run(file: Path, stem: str) -> None:
    """Executes a definition file as a module of its own, without leaving bytecode beside it."""
    module = ModuleType(f"eulerc_extension_{stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)


def _line_of(error: BaseException, folder: Path) -> str:
    """Where in the extension's own files an error came up."""
    place, trace = "", error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).parent == folder:
            place = f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _complaint_of_component(extension: Extension) -> str | None:
    from eulerc.backends.hf.component_file import component_file
    from eulerc.backends.hf.source_edit import SpecialiseError, parse
    from eulerc.backends.hf.sources import own_source

    if own_source(extension.stem) is not None:
        return f"{extension.stem} is the name of a component of eulerc's own: rename the folder"
    try:
        component_file(parse(extension.component, COMPONENT))
    except (SpecialiseError, SyntaxError) as error:
        return str(error)
    return None


def _complaints(stem: str, kinds: list[type[Definition]]) -> Iterator[str]:
    """What is wrong with the definitions of an extension."""
    if not kinds:
        yield f"{DEFINITION} registers no definition: decorate one with eulerc.ir.definition.register"
    for kind in kinds:
        if kind.axis not in AXES or kind.name.split(".")[0] != kind.axis:
            yield f"{kind.__name__} is called {kind.name!r} on axis {kind.axis!r}: mixer.* on mixer, ffn.* on ffn"
        elif kind.name in definitions() or kind.yaml_type in by_axis(str(kind.axis)):
            yield f"{kind.name} (type {kind.yaml_type}) is one of eulerc's own: choose another name"
        elif kind.yaml_type is None or kind.module_name is None or kind.__doc__ is None:
            yield f"{kind.__name__} needs yaml_type, module_name and a docstring"


def failure(error: BaseException, extensions: Iterable[Extension]) -> tuple[Extension, str] | None:
    """The extension in whose code an error came up, and what to say of it; None where it is not one's fault."""
    for extension in extensions:
        module = sys.modules.get(f"eulerc_extension_{extension.stem}")
        place = _line_of(error, Path(str(module.__file__)).parent) if module is not None else ""
        if place:
            return extension, f"{type(error).__name__}: {error}{place}"
    return None
