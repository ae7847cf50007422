"""What is generated for a dozen models, held to files that reviewers read; `EULERC_SNAP=1` writes them anew."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from eulerc.api import Loaded, compile, load
from eulerc.backends.hf.build import Options, text_files
from eulerc.diagnostics.model import Diagnostics
from eulerc.ir.compact import compact
from eulerc.ir.core import Module
from eulerc.ir.printer import print_module
from tests.variants import VARIANTS as SPECS

FOLDER = Path(__file__).parent
UPDATE = os.environ.get("EULERC_SNAP") == "1"
PRESETS = (
    "gpt2",
    "llama-3.2-1b",
    "gemma-2-2b",
    "olmo-2-1b",
    "phi-2",
    "mixtral-8x22b",
    "deepseek-v3",
    "qwen3-1.7b",
)
VARIANTS = ("cohere2", "alibi", "mixed_sizes", "two_windows", "mtp_drafting_windowed", "prefix_in_some")
NAMES = (*PRESETS, *VARIANTS)


def variant(name: str) -> bytes:
    """The text of a tiny spec of `tests/variants`."""
    return SPECS[name].encode()


@cache
def read(name: str, stage: str) -> tuple[Loaded, Module]:
    return read_text(None if name in PRESETS else variant(name), name, stage)


def read_text(text: bytes | None, name: str = "spec.yaml", stage: str = "module") -> tuple[Loaded, Module]:
    diagnostics = Diagnostics()
    loaded = load(name, diagnostics, text)
    module = None if loaded is None else compile(loaded, diagnostics, stage)
    assert loaded is not None and module is not None, diagnostics.items
    return loaded, module


@pytest.mark.parametrize("name", NAMES)
def test_the_generated_file_is_the_golden_one(name: str) -> None:
    loaded, module = read(name, "module")
    files = text_files(module, loaded, Options(tokenizer=False))
    (modeling,) = (data for file, data in files.items() if file.startswith("modeling_"))
    held(f"{name}.modeling.py", modeling)


@pytest.mark.parametrize("name", NAMES)
def test_the_ir_is_the_golden_one(name: str) -> None:
    _, module = read(name, "layers")
    held(f"{name}.layers.eir", print_module(compact(module)).encode())


def test_every_golden_file_has_its_model() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.suffix in (".py", ".eir")} - {Path(__file__).name}
    assert files == {f"{name}.{kind}" for name in NAMES for kind in ("modeling.py", "layers.eir")}


def test_golden_files_are_formatted_however_long_the_name_of_the_model_is() -> None:
    command = (sys.executable, "-m", "ruff", "format", "--isolated", "--no-cache", "--line-length", "119", "--diff")
    name = "A-name-of-fifty-letters-for-a-model-that-is-so-long"
    loaded, module = read_text(variant("deepseek_v3").replace(b"deepseek_like", name.encode()))
    files = text_files(module, loaded, Options(tokenizer=False))
    long = next(data for file, data in files.items() if file.startswith("modeling_"))
    for data in (long, *(path.read_bytes() for path in FOLDER.glob("*.modeling.py"))):
        run = subprocess.run((*command, "-"), input=data, capture_output=True)
        assert run.returncode == 0, run.stdout.decode()


def held(file: str, data: bytes) -> None:
    """Asserts that a golden file holds just these bytes; writes it when asked to."""
    path = FOLDER / file
    if UPDATE:
        path.write_bytes(data)
    assert path.is_file(), f"{file} is not there: run with EULERC_SNAP=1"
    assert path.read_text(encoding="utf-8") == data.decode()
