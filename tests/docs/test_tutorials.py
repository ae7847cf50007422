"""The tutorials: their commands, run in order, print what the pages show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, fenced, held

TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def environment(folder: Path) -> dict[str, str]:
    """An environment in which `eulerc` and `python` are those of this test, and nothing goes to the network."""
    programs = folder / "bin"
    programs.mkdir()
    for name, command in {"python": "", "eulerc": "-m eulerc.cli.main"}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        program.chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(folder / "modules"),
        "LC_ALL": "C.UTF-8",
    }


def session(commands: list[tuple[str, str]], work: Path, variables: dict[str, str]) -> str:
    """Runs commands; what they print. On stderr stand the findings of eulerc, and the progress bars of libraries."""
    shown = ""
    for command, _ in commands:
        redirected = f"{command} 2>&1" if command.startswith(("eulerc lint", "eulerc build")) else command
        done = subprocess.run(redirected, shell=True, cwd=work, env=variables, stdout=subprocess.PIPE, text=True)
        shown += f"$ {command}\n{done.stdout}"
    return shown


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_commands_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    work, variables = tmp_path / "work", environment(tmp_path)
    work.mkdir()
    text = page.read_text(encoding="utf-8")
    for block in fenced(text):
        if (name := block.option("file")) is not None:
            (work / name).write_text(block.text, encoding="utf-8")
        if block.language == "console":
            text = text.replace(block.text, session(COMMAND.findall(block.text), work, variables), 1)
    held(page, text)
