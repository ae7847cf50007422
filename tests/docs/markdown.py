"""Reads the documentation: fenced blocks with their words, sections, snapshots."""

from __future__ import annotations

import os
import re
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
SNAPSHOTS = Path(__file__).parent / "snapshots"
FENCE = re.compile(r"^```(\S*)[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
UPDATE = os.environ.get("EULERC_SNAP") == "1"


@frozen
class Fenced:
    """A fenced block: its language, the words after it (`error=E0312`) and the text within."""

    language: str
    words: tuple[str, ...]
    text: str

    def option(self, name: str) -> str | None:
        """The value of the word `name=value`."""
        return next((word.removeprefix(f"{name}=") for word in self.words if word.startswith(f"{name}=")), None)


def fenced(text: str) -> list[Fenced]:
    """The fenced blocks of a page, in order."""
    return [Fenced(language, tuple(words.split()), body) for language, words, body in FENCE.findall(text)]


def section(text: str, name: str) -> str:
    """What stands under `## name`."""
    match = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, f"no section {name}"
    return match[1].strip()


def held(path: Path, text: str) -> None:
    """Asserts that a file holds this text; with EULERC_SNAP=1 writes it."""
    if UPDATE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path.name} is not there: run with EULERC_SNAP=1"
    assert path.read_text(encoding="utf-8") == text
