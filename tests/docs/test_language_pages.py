"""The reference of the language: its tables are those of the definitions, and its examples do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eulerc.api import lint
from eulerc.diagnostics.render import render
from eulerc.frontend.blocks import TOP_LEVEL
from eulerc.ir.definition import by_axis
from eulerc.reference import AXES, GENERATED, tables, with_tables
from tests.docs.markdown import ROOT, Fenced, fenced, held

PATHS = sorted(path for folder in ("language", "tutorials") for path in (ROOT / "docs" / folder).glob("*.md"))
PAGES = {f"{path.parent.name}/{path.stem}": path.read_text(encoding="utf-8") for path in PATHS}
LANGUAGE = [name for name in PAGES if name.startswith("language/")]
BASE = next(block.text for block in fenced(PAGES["language/README"]) if block.language == "yaml")
TOP_KEY = re.compile(r"^(?=[a-z_]+:)", re.MULTILINE)
EXAMPLES = [
    pytest.param(name, block, id=f"{name}-{number}")
    for name, text in PAGES.items()
    for number, block in enumerate(fenced(text), start=1)
    if block.language == "yaml" and block.option("file") is None
]


def by_key(text: str) -> dict[str, str]:
    """The lines of a spec by the top-level key that they belong to."""
    return {block.split(":")[0]: block for block in TOP_KEY.split(text) if block}


def whole(text: str) -> str:
    """The spec of an example: a part stands in the place of the same keys of the base spec."""
    return text if text.startswith("schema_version") else "".join((by_key(BASE) | by_key(text)).values())


@pytest.mark.parametrize("name", LANGUAGE)
def test_tables_are_those_of_the_definitions(name: str) -> None:
    held(ROOT / "docs" / f"{name}.md", with_tables(PAGES[name]))


def test_every_table_stands_on_one_page() -> None:
    found = [match[2] for name in LANGUAGE for match in GENERATED.finditer(PAGES[name])]
    assert sorted(found) == sorted(tables())


def test_every_block_and_type_has_a_page() -> None:
    links = set(re.findall(r"\]\((\w+)\.md\)", PAGES["language/README"]))
    assert links == {name.removeprefix("language/") for name in LANGUAGE} - {"README"}
    types = {word for axis in ("mixer", "ffn") for word in by_axis(axis)} - {"none"}
    assert types | set(TOP_LEVEL) - {"schema_version"} | set(AXES[2:]) <= links


@pytest.mark.parametrize(("name", "block"), EXAMPLES)
def test_example_does_what_it_says(name: str, block: Fenced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for other in fenced(PAGES[name]):
        if other.option("file") is not None:
            path = tmp_path / str(other.option("file"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(other.text, encoding="utf-8")
    (tmp_path / "kestrel.yaml").write_text(whole(block.text), encoding="utf-8")
    result = lint("kestrel.yaml")
    expected = block.option("error")
    found = {item.code for item in result.diagnostics if item.severity != "note"}
    assert found == ({expected} if expected else set()), render(result.diagnostics, result.texts)
