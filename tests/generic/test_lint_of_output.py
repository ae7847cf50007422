"""Generated files are clean for `ruff` and for the linter of transformers, in both layouts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from builds import ROOT, VARIANTS, read

from eulerc.backends.hf.build import Options, text_files

LAYOUTS = ("single", "split")
RUFF = (sys.executable, "-m", "ruff")
MLINTER = (sys.executable, "-m", "mlinter", "--no-cache", "--no-progress")


@cache
def sources(layout: str) -> Path:
    """A folder with the Python files of every variant, each in a folder of its own."""
    folder = ROOT / f"sources_{layout}"
    for name, text in VARIANTS.items():
        loaded, module = read(text)
        files = text_files(module, loaded, Options(tokenizer=False, layout=layout))
        (folder / name).mkdir(parents=True)
        for path, data in files.items():
            # Files in folders are those of extensions, as their authors wrote them
            if path.endswith(".py") and "/" not in path:
                (folder / name / path).write_bytes(data)
    return folder


def complaints(*command: str) -> str:
    """What a command says, where it does not end well."""
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "1000"})
    return run.stdout + run.stderr if run.returncode else ""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ruff_finds_nothing(layout: str) -> None:
    options = ("--isolated", "--no-cache", "--line-length", "119")
    assert not complaints(*RUFF, "check", *options, "--select", "E,F,I,W", str(sources(layout)))
    assert not complaints(*RUFF, "format", *options, "--diff", str(sources(layout)))


def found_by_rule(layout: str) -> set[tuple[str, str]]:
    """Each rule of transformers' linter that a variant breaks."""
    found = complaints(*MLINTER, str(sources(layout)))
    return {(rule, name) for name, rule in re.findall(r"/(\w+)/\w+\.py:\s*L\d+:\s*(TRF\d+)", found)}


def test_the_linter_of_transformers_finds_nothing_in_the_split_layout() -> None:
    assert not found_by_rule("split")


def test_the_linter_of_transformers_misses_only_the_configuration_file_in_one_file() -> None:
    # TRF015 wants `tie_word_embeddings` in configuration_*.py, which the single layout has not.
    assert {rule for rule, _ in found_by_rule("single")} == {"TRF015"}


def test_the_linter_of_transformers_reads_these_files(tmp_path: Path) -> None:
    for path in (sources("split") / "llama").iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("limitations under the License.", ""))
    found = complaints(*MLINTER, str(tmp_path))
    assert found.count("TRF028") == 2
