"""Values of keys that concern one part of the language, each part in a module of its own.

A module may have `DRAWN`, by key the strategy of its values in drawn specs; `TRIED`, by key the values that must have
an effect; and `NEEDED`, by short path of a key what else the spec must say for it to have one.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from hypothesis import strategies as st


def _gathered(table: str) -> dict[Any, Any]:
    """One table of all modules, in the order of the modules' names; a key given twice is an error."""
    gathered: dict[Any, Any] = {}
    for name in sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__"):
        own = getattr(import_module(f"{__name__}.{name}"), table, {})
        assert not gathered.keys() & own.keys(), (name, gathered.keys() & own.keys())
        gathered |= own
    return gathered


DRAWN: dict[str, st.SearchStrategy[Any]] = _gathered("DRAWN")
TRIED: dict[str, list[Any]] = _gathered("TRIED")
NEEDED: dict[tuple[str, ...], dict[tuple[str, ...], Any]] = _gathered("NEEDED")
