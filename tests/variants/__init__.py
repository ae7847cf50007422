"""Specs that between them use every construct of the language, at tiny sizes: what the generic checks run over.

Every module of this package that has a dictionary `VARIANTS`, from names to texts, adds to them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.variants.building import block, spec

__all__ = ["VARIANTS", "block", "spec"]


def _gathered() -> dict[str, str]:
    """The variants of all modules, in the order of the modules' names; a name given twice is an error."""
    gathered: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem != "__init__":
            own = getattr(import_module(f"tests.variants.{path.stem}"), "VARIANTS", {})
            assert not gathered.keys() & own.keys(), path.stem
            gathered |= own
    return gathered


VARIANTS = _gathered()
"""Specs by name."""
