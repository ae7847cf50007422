"""The texts of components: files of the compiler's own, or those of extensions."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from eulerc.ir.extensions import loaded


@cache
def own_source(name: str) -> str | None:
    """The text of a component of the compiler's own."""
    file = files("eulerc.backends.hf.components") / f"{name}.py"
    return file.read_text(encoding="utf-8") if file.is_file() else None


def component_source(name: str) -> str:
    """The text of a component. Raises KeyError if there is none."""
    own = own_source(name)
    if own is not None:
        return own
    extension = loaded(name)
    if extension is None:
        raise KeyError(name)
    return extension.component
