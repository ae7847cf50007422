import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eulerc.backends.hf import exchange
from eulerc.backends.hf.exchange import MANIFEST, OutputError, heal, staged


@pytest.fixture(params=["swap", "two renames"])
def mechanism(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to exchange; the second is taken where the system or the file system lacks the first."""
    if request.param == "two renames":
        monkeypatch.setattr(exchange, "_swap", lambda first, second: False)
    return request.param


def build(directory: Path, text: str, *, force: bool = False) -> None:
    with staged(directory, force=force) as folder:
        (folder / "weights").mkdir()
        (folder / "weights" / "model").write_text(text)
        (folder / MANIFEST).write_text(text)


def build_half(directory: Path, failure: type[BaseException]) -> None:
    with staged(directory, force=False) as folder:
        (folder / "half").write_text("written")
        raise failure


def contents(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_text() for path in files}


def built(text: str) -> dict[str, str]:
    return {"weights/model": text, MANIFEST: text}


def refusal(directory: Path, *, force: bool = False) -> OutputError:
    with pytest.raises(OutputError) as caught:
        build(directory, "new", force=force)
    return caught.value


@pytest.mark.usefixtures("mechanism")
def test_a_build_makes_and_replaces_the_directory_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "kestrel"
    build(target, "first")
    assert contents(target) == built("first")
    (target / "stale").write_text("of the first build")
    build(target, "second")
    assert contents(target) == built("second")
    assert list(tmp_path.iterdir()) == [target]


def test_this_system_exchanges_in_one_step(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange._swap(tmp_path / "a", tmp_path / "b"):
        pytest.skip("no exchange of paths on this system or file system")
    assert (tmp_path / "a" / "b").exists() and (tmp_path / "b" / "a").exists()


def test_new_directory_has_the_permissions_of_any_new_directory(tmp_path: Path) -> None:
    build(tmp_path / "kestrel", "new")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "kestrel").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failed_build_leaves_everything_as_it_was(tmp_path: Path, failure: type[BaseException], exists: bool) -> None:
    target = tmp_path / "kestrel"
    if exists:
        build(target, "old")
    before = contents(tmp_path)
    with pytest.raises(failure):
        build_half(target, failure)
    assert contents(tmp_path) == before
    assert target.exists() == exists and len(list(tmp_path.iterdir())) == exists


def test_target_is_untouched_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "kestrel"
    build(target, "old")
    with staged(target, force=False) as folder:
        (folder / MANIFEST).write_text("new")
        assert folder.parent == tmp_path and folder.name.startswith(".kestrel.eulerc-")
        assert contents(target) == built("old")


def test_a_foreign_directory_is_refused_and_kept(tmp_path: Path) -> None:
    target = tmp_path / "notes"
    target.mkdir()
    (target / "thesis.tex").write_text("years of work")
    error = refusal(target)
    assert (error.code, error.message) == ("E0601", f'"{target}" is not empty and was not made by eulerc')
    assert "--force" in error.help
    assert contents(tmp_path) == {"notes/thesis.tex": "years of work"}


def test_a_foreign_directory_that_appears_during_the_build_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "notes"
    build_under_way = staged(target, force=False)
    build_under_way.__enter__()
    target.mkdir()
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="E0601"):
        build_under_way.__exit__(None, None, None)
    assert contents(tmp_path) == {"notes/thesis.tex": "years of work"}


@pytest.mark.usefixtures("mechanism")
def test_force_replaces_a_foreign_directory(tmp_path: Path) -> None:
    target = tmp_path / "notes"
    target.mkdir()
    (target / "draft").touch()
    build(target, "new", force=True)
    assert contents(tmp_path) == {f"notes/{name}": text for name, text in built("new").items()}


@pytest.mark.usefixtures("mechanism")
def test_an_empty_directory_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kestrel").mkdir()
    build(tmp_path / "kestrel", "new")
    assert contents(tmp_path / "kestrel") == built("new")


def test_a_link_to_a_directory_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "latest"
    (tmp_path / "runs").mkdir()
    link.symlink_to(tmp_path / "runs" / "kestrel")
    for text in ("first", "second"):
        build(link, text)
        assert link.is_symlink() and contents(tmp_path / "runs" / "kestrel") == built(text)


@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_the_working_directory_is_refused_even_with_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    error = refusal(Path(place), force=True)
    assert (error.code, error.message) == ("E0601", f'"{place}" is the working directory or holds it')
    assert (tmp_path / "a" / "b").is_dir()


def test_the_home_directory_is_refused_even_with_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "ada"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for target in (home, home.parent):
        assert refusal(target, force=True).message == f'"{target}" is the home directory or holds it'


def test_a_missing_parent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(Path("runs/kestrel"))
    assert (error.code, error.message) == ("E0602", 'there is no directory "runs"')
    assert error.help == "make it first: mkdir -p runs"


def test_a_directory_that_may_not_be_written_is_refused(unprivileged: Path) -> None:
    error = refusal(unprivileged / "kestrel")
    assert error.code == "E0602"
    assert error.message == f'"{unprivileged / "kestrel"}" cannot be written: Permission denied'


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[Path]:
    """A folder in which this process may not write: root gives up its rights for the test."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        for parent in (tmp_path, *tmp_path.parents[:2]):
            parent.chmod(0o755)
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o755)


def test_a_file_is_refused_and_kept(tmp_path: Path) -> None:
    target = tmp_path / "kestrel"
    target.write_text("a file")
    error = refusal(target, force=True)
    assert (error.code, error.message) == ("E0603", f'"{target}" is a file')
    assert target.read_text() == "a file"


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "another disk"), (errno.EBUSY, "mount point"), (errno.EIO, "build again")]
)
def test_an_error_of_the_system_says_what_to_do(tmp_path: Path, number: int, words: str) -> None:
    build(tmp_path / "kestrel", "old")
    with pytest.raises(OutputError) as caught, staged(tmp_path / "kestrel", force=False) as folder:
        raise OSError(number, os.strerror(number), str(folder / "model.safetensors"))
    assert caught.value.code == "E0604"
    assert caught.value.message == f'cannot write "{tmp_path / "kestrel"}": {os.strerror(number)}'
    assert words in caught.value.help
    assert contents(tmp_path / "kestrel") == built("old")


def test_an_error_about_another_file_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged(tmp_path / "kestrel", force=False):
        (tmp_path / "spec.yaml").read_text()


def test_a_name_that_the_file_system_cannot_hold_is_an_output_error(tmp_path: Path) -> None:
    assert refusal(tmp_path / ("k" * 250)).code == "E0604"


def test_healing_restores_the_old_directory_after_the_first_of_two_renames(tmp_path: Path) -> None:
    target = tmp_path / "kestrel"
    build(target, "old")
    target.rename(tmp_path / ".kestrel.eulerc-backup-77")
    heal(target)
    assert contents(tmp_path) == {f"kestrel/{name}": text for name, text in built("old").items()}


def test_healing_removes_what_is_left_after_the_second_of_two_renames(tmp_path: Path) -> None:
    target = tmp_path / "kestrel"
    build(tmp_path / ".kestrel.eulerc-backup-77", "old")
    build(target, "new")
    assert contents(target) == built("new") and list(tmp_path.iterdir()) == [target]


def test_healing_spares_a_build_under_way_and_other_targets(tmp_path: Path) -> None:
    target = tmp_path / "kestrel"
    (tmp_path / ".merlin.eulerc-staging-77").mkdir()
    with staged(target, force=False) as folder:
        heal(target)
        assert folder.is_dir()
        (folder / MANIFEST).write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".merlin.eulerc-staging-77", "kestrel"]


def test_healing_beside_a_missing_parent_does_nothing(tmp_path: Path) -> None:
    heal(tmp_path / "missing" / "kestrel")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("mechanism")
def test_builds_of_one_target_at_once_leave_one_of_them_complete(tmp_path: Path) -> None:
    target = tmp_path / "kestrel"
    failures: list[BaseException] = []

    def many(thread: int) -> None:
        try:
            for number in range(15):
                build(target, f"{thread}.{number}")
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=many, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert contents(target) in [built(f"{thread}.14") for thread in range(4)]
    assert list(tmp_path.iterdir()) == [target]
