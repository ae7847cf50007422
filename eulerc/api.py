"""The Python API: load, lint, compile, build. The commands are a thin layer over it."""

from __future__ import annotations

from errno import EISDIR
from pathlib import Path
from typing import Any

from attrs import frozen

from eulerc.budgets import check_budgets
from eulerc.diagnostics.model import Diagnostic, Diagnostics, SpecError
from eulerc.frontend.compose import Spec
from eulerc.frontend.compose import load as load_spec
from eulerc.frontend.elaborate import elaborate
from eulerc.ir.compact import complete
from eulerc.ir.core import Module
from eulerc.ir.passes.pipeline import advance, allowed_ops
from eulerc.parameter_rules import check_parameters
from eulerc.presets.catalogue import preset_path


@frozen
class Loaded:
    """A source that was read: a spec, or a module from textual IR.

    `texts` maps the display name of every source to its text; `base` is the folder that relative paths start from.
    """

    name: str
    texts: dict[str, str]
    digests: dict[str, str]
    base: Path | None
    spec: Spec | None = None
    module: Module | None = None


@frozen
class Linted:
    """The findings about a source, and the module where there were no errors.

    `compiled` is the module also where the only errors are unmet expectations.
    """

    diagnostics: tuple[Diagnostic, ...]
    texts: dict[str, str]
    module: Module | None
    loaded: Loaded | None = None
    compiled: Module | None = None

    @property
    def ok(self) -> bool:
        return self.module is not None


def resolve_source(source: str | Path) -> Path:
    """The path of a file or pipe, or the preset of that name. Raises FileNotFoundError and IsADirectoryError."""
    path = Path(source)
    if path.exists() and not path.is_dir():
        return path
    preset = preset_path(str(source))
    if preset is not None:
        return preset
    if str(source) and path.is_dir():
        raise IsADirectoryError(EISDIR, "it is a directory; name a spec in it", str(source))
    raise FileNotFoundError(str(source))


def load(source: str | Path, diagnostics: Diagnostics, text: bytes | None = None) -> Loaded | None:
    """Reads a spec file, a preset, a `.eir` file, or `text` under the name `source`."""
    path = None if text is not None else resolve_source(source)
    if path is not None and path.suffix == ".eir":
        return _load_ir(path, diagnostics)
    if text is not None and text.startswith(b"euler.ir "):
        return _parse_ir(text, str(source), None, diagnostics)
    spec = (
        load_spec(path, text, diagnostics, name=str(source)) if text is not None else load_spec(path, None, diagnostics)
    )
    if spec is None:
        return None
    base = path.parent if path is not None else Path.cwd()
    return Loaded(str(source), spec.sources, spec.digests, base, spec=spec)


def _load_ir(path: Path, diagnostics: Diagnostics) -> Loaded | None:
    return _parse_ir(path.read_bytes(), str(path), path.parent, diagnostics)


def _parse_ir(data: bytes, name: str, base: Path | None, diagnostics: Diagnostics) -> Loaded | None:
    from hashlib import sha256

    from eulerc.frontend.decode import decode
    from eulerc.ir.parser import parse_module

    text = decode(data, name, diagnostics)
    if text is not None:
        diagnostics.sources[name] = text
    known = frozenset().union(*(allowed_ops(stage) for stage in ("arch", "layers", "module")))
    module = None if text is None else parse_module(text, name, diagnostics, known_ops=known)
    if module is None or text is None:
        return None
    return Loaded(name, {name: text}, {Path(name).name: sha256(data).hexdigest()}, base, module=module)


def compile(loaded: Loaded, diagnostics: Diagnostics, stage: str = "module") -> Module | None:
    """The module at `stage`, or None when there are errors."""
    module = complete(loaded.module) if loaded.module is not None else None
    if loaded.spec is not None:
        module = elaborate(loaded.spec, diagnostics)
    return None if module is None or diagnostics.has_errors else advance(module, stage)


def lint(source: str | Path, text: bytes | None = None) -> Linted:
    """Every finding about a source. Raises FileNotFoundError if there is no such source."""
    diagnostics = Diagnostics()
    loaded = load(source, diagnostics, text)
    module = None if loaded is None else compile(loaded, diagnostics)
    if module is not None:
        check_budgets(module, diagnostics)
        check_parameters(module, diagnostics)
    texts = dict(diagnostics.sources) if loaded is None else loaded.texts
    return Linted(diagnostics.sorted(), texts, None if diagnostics.has_errors else module, loaded, module)


def portability(module: Module) -> dict[str, Any]:
    """By engine, its verdict on a module at stage `module` (yes, restricted or no) and the reasons, as JSON values."""
    from eulerc.backends.hf.portability import verdicts

    return {engine: verdict.as_json() for engine, verdict in verdicts(module).items()}


def build(source: str | Path, directory: str | Path, **options: Any) -> None:
    """Builds a model directory. Options are those of `eulerc.backends.hf.build.Options`. Raises SpecError."""
    from eulerc.backends.hf.build import Options
    from eulerc.backends.hf.build import build as build_directory

    result = lint(source)
    if result.loaded is None or result.module is None:
        raise SpecError(result.diagnostics)
    build_directory(result.module, result.loaded, Path(directory), Options(**options))
