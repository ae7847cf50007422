"""Replace an output directory as a whole: whoever looks sees the old one or the new one, never a mixture.

A build writes to a hidden sibling, its staging directory, which changes places with the target when it is complete.
What a killed build left behind is put right by the next one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

if os.name != "nt":
    import fcntl

MANIFEST = "eulerc.json"
"""The file by which a directory is known as one that eulerc made."""

_LINUX_AT_FDCWD = -100
_LINUX_RENAME_EXCHANGE = 2
_DARWIN_RENAME_SWAP = 2

_HELP = {
    errno.ENOSPC: "free some space, or name a directory on another disk",
    errno.EDQUOT: "free some of your quota, or name a directory on another disk",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EBUSY: "a mount point cannot be replaced: name a directory inside it",
}


class OutputError(Exception):
    """The output directory cannot be made or replaced, and is as it was.

    `code` is E0601 (not eulerc's to replace), E0602 (cannot be made there), E0603 (a file) or E0604 (the system
    refused); `message` and `help` are those of a diagnostic.
    """

    def __init__(self, code: str, message: str, help: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.help = help


@contextmanager
def staged(directory: Path, *, force: bool) -> Iterator[Path]:
    """A new directory to write into, which becomes `directory` when the block ends without an exception.

    On any exception, KeyboardInterrupt too, `directory` stays as it was and the new one is removed. Several builds of
    one target may run at once; the last to finish stays. `force` allows replacing a directory that eulerc did not
    make. Raises OutputError, also for an OSError within the block that concerns the output.
    """
    target = _resolved(directory)
    with _os_errors_explained(directory, target):
        _require_parent(directory, target)
        with _locked(target.parent):
            _heal(target)
            _require_replaceable(directory, target, force=force)
            staging = _new_sibling(target, "staging")
            staging.mkdir()
            lock = _lock(staging, wait=True)
        try:
            yield staging
            _flush(staging)
            with _locked(target.parent):
                _require_replaceable(directory, target, force=force)
                _exchange(staging, target)
        finally:
            # By now the staging name holds the old directory, or what was written before a failure, or nothing.
            shutil.rmtree(staging, ignore_errors=True)
            _unlock(lock)


def heal(directory: Path) -> None:
    """Undo what builds of `directory` that died left beside it: restore the old directory, remove the rest."""
    target = _resolved(directory)
    if target.parent.is_dir():
        with _locked(target.parent):
            _heal(target)


def _resolved(directory: Path) -> Path:
    """The directory itself where `directory` is a link to it: exchanging must not turn the link into a directory."""
    return Path(os.path.realpath(directory))


def _require_parent(directory: Path, target: Path) -> None:
    if not target.parent.is_dir():
        missing = target.parent if directory.is_symlink() else directory.parent
        raise OutputError("E0602", f'there is no directory "{missing}"', f"make it first: mkdir -p {missing}")


def _require_replaceable(directory: Path, target: Path, *, force: bool) -> None:
    if target.exists() and not target.is_dir():
        raise OutputError("E0603", f'"{directory}" is a file', "name a directory, or remove the file")
    for place, path in (("working", Path.cwd()), ("home", _resolved(Path(os.path.expanduser("~"))))):
        if path.is_relative_to(target):
            message = f'"{directory}" is the {place} directory or holds it'
            raise OutputError("E0601", message, "name a directory inside it")
    if not force and _is_foreign(target):
        message = f'"{directory}" is not empty and was not made by eulerc'
        raise OutputError("E0601", message, "name another directory, or replace it and all it holds with --force")


def _is_foreign(target: Path) -> bool:
    return target.exists() and not (target / MANIFEST).is_file() and any(target.iterdir())


@contextmanager
def _os_errors_explained(directory: Path, target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not _concerns(error, target):
            raise
        reason = error.strerror or str(error)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            message, help = f'"{directory}" cannot be written: {reason}', "name a directory that you may write to"
            raise OutputError("E0602", message, help) from error
        help = _HELP.get(error.errno or 0, "the directory is as it was; build again when the cause is gone")
        raise OutputError("E0604", f'cannot write "{directory}": {reason}', help) from error


def _concerns(error: OSError, target: Path) -> bool:
    """Whether an OSError is about the output; one of a write to an open file names no path."""
    if not isinstance(error.filename, str):
        return True
    path = Path(error.filename)
    is_sibling = error.filename.startswith(str(target.parent / _sibling_prefix(target)))
    return is_sibling or path == target.parent or path.is_relative_to(target)


def _sibling_prefix(target: Path, role: str = "") -> str:
    return f".{target.name}.eulerc-{role}"


def _new_sibling(target: Path, role: str) -> Path:
    """A name that nobody has or will have again: what this process removes by name late is then surely its own."""
    return target.with_name(f"{_sibling_prefix(target, role)}-{token_hex(4)}")


def _exchange(staging: Path, target: Path) -> None:
    if not target.exists():
        os.rename(staging, target)
    elif not _swap(staging, target):
        _rename_twice(staging, target)
    _flush_path(target.parent)


def _swap(first: Path, second: Path) -> bool:
    """Let two paths change places in one step; False where the system or the file system has no such call."""
    if os.name == "nt":
        return False
    system = ctypes.CDLL(None)
    paths = os.fsencode(first), os.fsencode(second)
    if hasattr(system, "renameat2"):
        here = _LINUX_AT_FDCWD
        return bool(system.renameat2(here, paths[0], here, paths[1], _LINUX_RENAME_EXCHANGE) == 0)
    if hasattr(system, "renamex_np"):
        return bool(system.renamex_np(*paths, _DARWIN_RENAME_SWAP) == 0)
    return False


def _rename_twice(staging: Path, target: Path) -> None:
    """Exchange in two steps. Between them there is no target, and `_heal` restores it if the process dies there."""
    backup = _new_sibling(target, "backup")
    os.rename(target, backup)
    try:
        os.rename(staging, target)
    finally:
        _restore_or_remove(backup, target)


def _restore_or_remove(backup: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(backup, ignore_errors=True)
    else:
        os.rename(backup, target)


def _heal(target: Path) -> None:
    """`heal` for a caller that holds the lock of the parent: no exchange and no new staging is under way."""
    siblings = sorted(path for path in target.parent.iterdir() if path.name.startswith(_sibling_prefix(target)))
    for path in siblings:
        if path.name.startswith(_sibling_prefix(target, "backup")):
            _restore_or_remove(path, target)
        elif _is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(staging: Path) -> bool:
    """Whether the build that made `staging` is dead: the system drops a dead process's lock, whatever its id was."""
    lock = _lock(staging, wait=False)
    _unlock(lock)
    return lock is not None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    lock = _lock(directory, wait=True)
    try:
        yield
    finally:
        _unlock(lock)


def _lock(directory: Path, *, wait: bool) -> int | None:
    """Lock a directory against other builds; None where one has it, it is gone, or its file system has no locks.

    Without locks nothing is taken for abandoned, and exchanges still leave one complete directory.
    """
    if os.name == "nt":
        return None
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _flush(directory: Path) -> None:
    """Put every file on the disk, so that a power cut after the exchange leaves no empty ones."""
    for folder, _, files in os.walk(directory):
        for name in files:
            _flush_path(Path(folder, name))
        _flush_path(Path(folder))


def _flush_path(path: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
