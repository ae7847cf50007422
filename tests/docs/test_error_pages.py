"""The pages of the diagnostics: complete, and true of the compiler."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eulerc.api import lint
from eulerc.cli.main import app
from eulerc.diagnostics.render import render
from eulerc.reference import page_of
from tests.docs.markdown import ROOT, SNAPSHOTS, Fenced, fenced, held, section

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/errors").glob("*.md"))}
SECTIONS = ["What", "Why", "Example", "Fix"]
CODE = re.compile(r'"([EWN]0\d{3})"')
SOURCES = {"yaml": "kestrel.yaml", "eir": "kestrel.eir"}


def codes_in_sources() -> set[str]:
    files = [file for top in ("eulerc", "ir", "backends") for file in (ROOT / top).rglob("*.py")]
    return {code for file in files for code in CODE.findall(file.read_text(encoding="utf-8"))}


def example(code: str) -> list[Fenced]:
    return fenced(section(PAGES[code], "Example"))


def is_of_build(code: str) -> bool:
    """E06 codes are found when a model is written, not when a spec is read."""
    return code.startswith("E06")


LINTED = [code for code in PAGES if example(code)[0].language in SOURCES and not is_of_build(code)]
BUILT = [code for code in PAGES if example(code)[0].language in SOURCES and is_of_build(code)]


def written(code: str, folder: Path) -> str:
    """Writes the example's files; the name of the first."""
    first, *others = example(code)
    name = SOURCES[first.language]
    (folder / name).write_text(first.text, encoding="utf-8")
    for other in others:
        path = folder / str(other.option("file"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(other.text, encoding="utf-8")
    return name


def test_every_code_of_the_sources_has_a_page_and_every_page_a_code() -> None:
    assert set(PAGES) == codes_in_sources()


@pytest.mark.parametrize("code", PAGES)
def test_page_has_its_title_and_sections(code: str) -> None:
    assert re.match(rf"# {code}: \S", PAGES[code])
    assert re.findall(r"^## (.*)$", PAGES[code], re.MULTILINE) == SECTIONS
    assert all(section(PAGES[code], name) for name in SECTIONS)


@pytest.mark.parametrize("code", LINTED)
def test_example_gives_its_code_and_no_other_error(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = lint(written(code, tmp_path))
    found = {item.code for item in result.diagnostics}
    assert code in found
    assert {item.code for item in result.diagnostics if item.severity == "error"} <= {code}
    held(SNAPSHOTS / f"{code}.txt", render(result.diagnostics, result.texts))


@pytest.mark.parametrize("code", BUILT)
def test_example_of_a_build_ends_with_its_code(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["build", written(code, tmp_path), "-o", "kestrel"])
    assert result.exit_code == 1
    assert re.findall(r"error\[(\w+)\]", result.stderr) == [code]
    assert not (tmp_path / "kestrel").exists()
    held(SNAPSHOTS / f"{code}.txt", result.stderr)


@pytest.mark.parametrize("code", PAGES)
def test_printed_example_shows_its_code(code: str) -> None:
    first = example(code)[0]
    assert first.language in SOURCES or f"[{code}]" in first.text


def test_explain_prints_the_page() -> None:
    result = CliRunner().invoke(app, ["explain", "e0312"])
    assert (result.exit_code, result.stdout) == (0, page_of("E0312"))
    assert page_of("E0999") is None


def test_every_snapshot_belongs_to_a_page() -> None:
    assert {path.stem for path in SNAPSHOTS.glob("*.txt")} == {*LINTED, *BUILT}
