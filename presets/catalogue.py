"""Finds presets by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

TIERS = ("validated", "hybrid", "experimental")


def catalogue() -> dict[str, Path]:
    """Every preset by its name, tier by tier."""
    root = Path(str(files("eulerc.presets")))
    return {path.stem: path for tier in TIERS for path in sorted((root / tier).glob("*.yaml"))}


def description(path: Path) -> str:
    """What a preset is, in a line: the `meta.description` that its file says."""
    line = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("  description:"))
    return line.removeprefix("  description:").strip().strip('"')


def preset_path(name: str) -> Path | None:
    """The file of the preset called `name`, or None."""
    return catalogue().get(name)
