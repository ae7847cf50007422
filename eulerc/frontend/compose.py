"""Temporary: reads one file without include."""
from __future__ import annotations
from hashlib import sha256
from pathlib import Path
from attrs import frozen
from eulerc.diagnostics.model import Diagnostics
from eulerc.frontend import tree
from eulerc.frontend.environment import Environment
from eulerc.frontend.reader import read


@frozen
class Spec:
    root: tree.Mapping
    environment: Environment
    sources: dict[str, str]
    digests: dict[str, str]


def load(path: Path | None, text: bytes | None, diagnostics: Diagnostics, *, name: str = "<stdin>") -> Spec | None:
    data = path.read_bytes() if path else text
    name = str(path) if path else name
    root = read(data, name, diagnostics)
    if root is None:
        return None
    return Spec(root, Environment(model={e.key: e.value.value for e in root.get("model")}), {name: data.decode()}, {name: sha256(data).hexdigest()})


def flatten(spec: Spec) -> str:
    return next(iter(spec.sources.values()))
