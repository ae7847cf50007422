"""How every component class is tried: `CASES` of the modules of this package, in the order of the modules' names."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.components.cases.building import Case


def _gathered() -> tuple[Case, ...]:
    modules = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    return tuple(case for name in modules for case in getattr(import_module(f"{__name__}.{name}"), "CASES", ()))


CASES = _gathered()
