"""What is shipped: the packages, their data, and what can be imported from where."""

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
MAPPED = {"eulerc": "eulerc", "eulerc.ir": "ir", "eulerc.backends": "backends"} | {
    f"eulerc.{name}": name for name in ("grammar", "presets")
}
PAGES = {"eulerc.diagnostics.pages": "docs/errors"}
"""Folders of data alone."""
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def folders() -> dict[str, Path]:
    """Every folder of source by its import name; the links are not followed."""
    found = {}
    for package, top in (MAPPED | PAGES).items():
        for path, below, _ in os.walk(ROOT / top):
            below[:] = [name for name in below if name not in IGNORED and not os.path.islink(os.path.join(path, name))]
            found[".".join([package, *Path(path).relative_to(ROOT / top).parts])] = Path(path)
    return found


def files_on_disk() -> set[str]:
    """Every file of the packages, by its place in a wheel."""
    return {
        f"{name.replace('.', '/')}/{file.name}"
        for name, folder in folders().items()
        for file in folder.iterdir()
        if file.is_file() and file.suffix not in (".pyc", ".so") and file.name != ".gitignore"
    }


def copy_of_sources(target: Path) -> Path:
    """The tree as git has it, links included, without what earlier builds left beside it."""
    names = ["pyproject.toml", "README.md", "LICENSE", *sorted((MAPPED | PAGES).values())]
    skip = [f"--exclude={name}" for name in sorted(IGNORED)]
    target.mkdir()
    packed = subprocess.run(["tar", "-c", *skip, *names], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x"], cwd=target, input=packed, check=True)
    return target


def build(hook: str, sources: Path, output: Path) -> Path:
    output.mkdir()
    subprocess.run([sys.executable, "-c", BUILD, hook, str(output)], cwd=sources, check=True, capture_output=True)
    (built,) = output.iterdir()
    return built


def modules(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if ".dist-info/" not in name]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build("build_wheel", copy_of_sources(folder / "sources"), folder / "dist")


def python_with(wheel: Path, folder: Path) -> Path:
    """The interpreter of a new environment that holds this wheel and nothing else."""
    venv.create(folder, symlinks=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site_packages)
    return folder / "bin" / "python"


def run(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, "-I", "-c", code], cwd=folder, capture_output=True, text=True)


def test_listed_packages_are_the_folders_that_hold_modules() -> None:
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert listed == sorted(listed)
    assert listed == sorted(name for name, folder in folders().items() if name in PAGES or any(folder.glob("*.py")))
    assert PYPROJECT["tool"]["setuptools"]["package-dir"] == MAPPED | PAGES


def test_every_listed_package_but_the_pages_has_an_init_module() -> None:
    places = folders()
    assert [
        name for name in PYPROJECT["tool"]["setuptools"]["packages"] if not (places[name] / "__init__.py").exists()
    ] == list(PAGES)


@pytest.mark.parametrize("top", sorted(set(MAPPED.values()) - {"eulerc"}))
def test_link_for_type_checkers_is_relative(top: str) -> None:
    assert os.readlink(ROOT / "eulerc" / top) == f"../{top}"


def test_link_to_the_error_pages_is_relative() -> None:
    assert os.readlink(ROOT / "eulerc/diagnostics/pages") == "../../docs/errors"


def test_wheel_holds_every_file_once(wheel: Path) -> None:
    names = modules(wheel)
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert set(names) == files_on_disk()


def test_wheel_from_the_source_archive_is_the_same(wheel: Path, tmp_path: Path) -> None:
    archive = build("build_sdist", copy_of_sources(tmp_path / "sources"), tmp_path / "sdist")
    with tarfile.open(archive) as packed:
        assert [member.name for member in packed if member.issym() or member.islnk()] == []
        packed.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert sorted(modules(build("build_wheel", unpacked, tmp_path / "dist"))) == sorted(modules(wheel))


@pytest.mark.parametrize("hook", ["build_wheel", "build_editable"])
def test_installed_packages_import_below_eulerc_only(hook: str, tmp_path: Path) -> None:
    built = build(hook, copy_of_sources(tmp_path / "sources"), tmp_path / "dist")
    python = python_with(built, tmp_path / "environment")
    for top in sorted(set(MAPPED.values()) - {"eulerc"}):
        assert "ModuleNotFoundError" in run(python, f"import {top}", tmp_path).stderr
        assert run(python, f"import eulerc.{top}", tmp_path).stderr == ""


@pytest.mark.parametrize("hook", ["build_wheel", "build_editable"])
def test_installed_data_is_read_by_importlib_resources(hook: str, tmp_path: Path) -> None:
    built = build(hook, copy_of_sources(tmp_path / "sources"), tmp_path / "dist")
    python = python_with(built, tmp_path / "environment")
    code = (
        "from importlib.resources import files; print(files({!r}).joinpath({!r}).read_text(encoding='utf-8'), end='')"
    )
    for package, file in (("eulerc.backends.hf.components", "attention.py"), ("eulerc.grammar", "ir.lark")):
        found = run(python, code.format(package, file), tmp_path).stdout
        assert found == (folders()[package] / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("hook", ["build_wheel", "build_editable"])
def test_installed_eulerc_finds_the_error_pages(hook: str, tmp_path: Path) -> None:
    built = build(hook, copy_of_sources(tmp_path / "sources"), tmp_path / "dist")
    python = python_with(built, tmp_path / "environment")
    code = "import sys; sys.path += {!r}; from eulerc.reference import page_of; print(page_of('E0312'), end='')"
    shown = run(python, code.format(sys.path), tmp_path)
    assert shown.stdout == (ROOT / "docs/errors/E0312.md").read_text(encoding="utf-8"), shown.stderr


def test_top_level_folder_says_how_to_import_it() -> None:
    shown = subprocess.run([sys.executable, "-c", "import ir"], cwd=ROOT, capture_output=True, text=True).stderr
    assert "import this package as eulerc.ir" in shown


def test_importing_eulerc_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import eulerc; print(sorted(set(sys.modules) - before))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "['eulerc']"


def test_plain_installation_needs_no_torch() -> None:
    names = {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]}
    assert names == {"PyYAML", "attrs", "lark", "numpy", "tokenizers", "typer"}


def test_constraints_pin_every_requirement_exactly() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    for line in [*PYPROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(line)
        if requirement.name != "eulerc":
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), line
