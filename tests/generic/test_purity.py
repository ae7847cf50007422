"""The bytes of a build depend on the spec and the options, and on nothing around them."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.variants import VARIANTS

ROOT = Path(__file__).parents[2]
CONTRACT = "tokenizer_contract: {type: hf, pretrained: byte-bpe}\n"
SPECS = {
    "deepseek_v3": VARIANTS["deepseek_v3"],
    "tokenizer": VARIANTS["gemma2"].replace("vocab_size: 99", "vocab_size: 512") + CONTRACT,
}
SURROUNDINGS: dict[str, dict[str, str]] = {
    "as it is": {},
    "hash seed": {"PYTHONHASHSEED": "1"},
    "another hash seed": {"PYTHONHASHSEED": "4242"},
    "one thread": {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    "several threads": {"OMP_NUM_THREADS": "3", "RAYON_NUM_THREADS": "3", "TOKENIZERS_PARALLELISM": "true"},
    "locale": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "TZ": "Asia/Tokyo"},
}


def built(spec: Path, out: Path, folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """SHA-256 of every file of a build that a process of its own makes, by name."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "eulerc.cli.main", "build", str(spec), "-o", str(out)]
    subprocess.run(command, cwd=folder, env=variables, capture_output=True, check=True)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / out).iterdir()}


@pytest.fixture(scope="module", params=SPECS)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A spec's file, and the digests of its build."""
    folder = tmp_path_factory.mktemp("purity")
    (folder / "spec.yaml").write_text(SPECS[request.param], encoding="utf-8")
    return folder / "spec.yaml", built(folder / "spec.yaml", folder / "out", folder, {})


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_do_not_show_in_a_build(reference: tuple[Path, dict[str, str]], name: str, tmp_path: Path) -> None:
    spec, wanted = reference
    assert "model.safetensors" in wanted
    assert built(spec, tmp_path / "out", tmp_path, SURROUNDINGS[name]) == wanted


def test_the_working_directory_and_how_paths_are_written_do_not_show(
    reference: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    spec, wanted = reference
    assert built(Path("spec.yaml"), tmp_path / "a", spec.parent, {}) == wanted
    (tmp_path / "deep" / "er").mkdir(parents=True)
    relative = Path(os.path.relpath(spec, tmp_path / "deep" / "er"))
    assert built(relative, Path("../b"), tmp_path / "deep" / "er", {}) == wanted


def test_building_twice_into_one_directory_changes_nothing(reference: tuple[Path, dict[str, str]]) -> None:
    spec, wanted = reference
    assert built(spec, spec.parent / "out", spec.parent, {}) == wanted


def test_no_file_holds_a_date_or_a_path(reference: tuple[Path, dict[str, str]]) -> None:
    spec, wanted = reference
    today = datetime.now(UTC)
    for name in wanted:
        data = (spec.parent / "out" / name).read_bytes()
        assert str(spec.parent).encode() not in data and str(ROOT).encode() not in data, name
        if not name.endswith(".safetensors"):
            assert not re.search(rb"\b20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", data), name
            assert today.strftime("%b %d").encode() not in data, name
