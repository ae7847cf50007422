"""The commands that need no weights import nothing heavy and answer at once; time grows slower than depth."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eulerc.api import compile, load
from eulerc.backends.hf.build import Options, text_files
from eulerc.diagnostics.model import Diagnostics
from tests.variants import VARIANTS, block, spec

ROOT = Path(__file__).parents[2]
SECONDS = 0.4
"""Bound on the CPU time of one command, interpreter included."""
TRIES = 8
HEAVY = ("torch", "transformers", "numpy", "safetensors")
COMMANDS = {
    "lint": ("lint", "smollm2-135m"),
    "dump-ir": ("dump-ir", "smollm2-135m"),
    "stats": ("stats", "smollm2-135m"),
    "diff": ("diff", "smollm2-135m", "smollm2-360m"),
    "viz": ("viz", "smollm2-135m", "-o", "smollm.svg"),
    "build": ("build", "smollm2-135m", "--weights", "none", "--no-tokenizer", "-o", "out"),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where bytecode is kept between runs, as it is in an installation."""
    return tmp_path_factory.mktemp("bytecode")


def run(*arguments: str, folder: Path, cache: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_without_weights_import_nothing_heavy(command: str, tmp_path: Path, cache: Path) -> None:
    code = f"""
import sys
from eulerc.cli.main import app
try:
    app({COMMANDS[command]!r})
except SystemExit as end:
    assert not end.code
print("imported:", sorted(set({HEAVY!r}) & sys.modules.keys()))
"""
    assert run("-c", code, folder=tmp_path, cache=cache).splitlines()[-1] == "imported: []"


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def best(measure: Callable[[], float], bound: float) -> float:
    """The least of a few measurements; others may be using the machine, so it stops when one is within the bound."""
    least = float("inf")
    for _ in range(TRIES):
        least = min(least, measure())
        if least < bound:
            break
    return least


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_without_weights_take_a_fraction_of_a_second(command: str, tmp_path: Path, cache: Path) -> None:
    def measure() -> float:
        before = children_seconds()
        run("-m", "eulerc.cli.main", *COMMANDS[command], folder=tmp_path, cache=cache)
        return children_seconds() - before

    measure()
    assert best(measure, SECONDS) < SECONDS


def seconds_for(text: str) -> float:
    started = time.process_time()
    diagnostics = Diagnostics()
    loaded = load("spec.yaml", diagnostics, text.encode())
    assert loaded is not None
    module = compile(loaded, diagnostics)
    assert module is not None
    text_files(module, loaded, Options())
    return time.process_time() - started


def deep(layers: int) -> str:
    two = block("window: 4", name="near") + block("n_kv_heads: 2", name="far")
    return spec("deep", two, f"  - {{pattern: [near, near, far], layers: {layers}}}")


@pytest.mark.parametrize("of_depth", [deep, lambda layers: VARIANTS["llama"].replace("repeat: 2", f"repeat: {layers}")])
def test_sixty_layers_cost_at_most_twice_as_much_as_six(of_depth: Callable[[int], str]) -> None:
    seconds_for(of_depth(6))
    ratios = []
    for _ in range(TRIES):
        ratios.append(
            min(seconds_for(of_depth(60)) for _ in range(3)) / min(seconds_for(of_depth(6)) for _ in range(3))
        )
        if ratios[-1] <= 2:
            break
    assert min(ratios) <= 2


def test_layers_that_each_differ_cost_no_more_than_their_number() -> None:
    text = VARIANTS["layer_index"].replace("intermediate_size: '${32 * (layer.index + 1)}'", "")
    few, many = text.replace("repeat: 3", "repeat: 20"), text.replace("repeat: 3", "repeat: 80")
    assert min(seconds_for(many) for _ in range(3)) < 8 * min(seconds_for(few) for _ in range(3))
