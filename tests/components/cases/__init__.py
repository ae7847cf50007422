"""How every component class is tried: `CASES` of the modules of this package, in the order of the modules' names.

`WITHIN` of a module are the classes that are tried within one that has them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from tests.components.cases.building import Case


def _gathered(table: str) -> tuple[Any, ...]:
    modules = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    return tuple(item for name in modules for item in getattr(import_module(f"{__name__}.{name}"), table, ()))


CASES: tuple[Case, ...] = _gathered("CASES")
WITHIN: frozenset[str] = frozenset(_gathered("WITHIN"))
