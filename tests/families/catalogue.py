"""The families under test: every `Family` that a module of this package defines."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.families.harness import Family


def _gathered() -> tuple[Family, ...]:
    families: dict[str, Family] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem.startswith(("test_", "__", "catalogue")):
            continue
        for value in vars(import_module(f"tests.families.{path.stem}")).values():
            if isinstance(value, Family):
                assert families.setdefault(value.name, value) is value, value.name
    return tuple(families.values())


FAMILIES = _gathered()
