"""Text round trips: every stage of every variant prints, parses, and builds to the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from builds import VARIANTS, read

from eulerc.backends.hf.build import Options, text_files
from eulerc.ir.compact import compact
from eulerc.ir.numbers import tensor_plan
from eulerc.ir.printer import print_module

SOURCES = ("README.md", "spec.yaml", "spec.eir")


@pytest.mark.parametrize("stage", ["arch", "layers", "module"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_stage_reads_back_as_itself_and_builds_the_same(name: str, stage: str) -> None:
    loaded, module = read(VARIANTS[name])
    _, staged = read(VARIANTS[name], stage=stage)
    text = print_module(compact(staged))
    again, parsed = read(text, "spec.eir", stage)
    assert print_module(compact(parsed)) == text
    assert parsed == staged
    again, finished = read(text, "spec.eir")
    assert list(tensor_plan(finished)) == list(tensor_plan(module))
    wanted = _files(text_files(module, loaded, Options(tokenizer=False)))
    found = _files(text_files(finished, again, Options(tokenizer=False)))
    assert found == wanted


def _files(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files without the source, and without the line that names it."""
    kept = {name: data for name, data in files.items() if name not in SOURCES}
    return {name: data.replace(b"spec.eir", b"spec.yaml") for name, data in kept.items()}
