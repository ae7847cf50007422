"""Write the weights of a plan: drawn beside the thread that hashes and writes them, in order, in bounded memory."""

from __future__ import annotations

import errno
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from eulerc.backends.hf.weights.generator import draw
from eulerc.backends.hf.weights.safetensors_file import (
    INDEX_NAME,
    MAX_SHARD_BYTES,
    Shard,
    index,
    item_bytes,
    shards,
    written,
)
from eulerc.ir.tensors import TensorPlan

Progress = Callable[[int, int], None]
"""Called with the bytes of weights written so far and in all."""

CHUNK_BYTES = 1 << 22
"""What a thread draws at a time. About `threads + 2` of these are in memory at once."""

THREADS = 1
"""Threads that draw. The caller's own hashes and writes, and is the slower of two: more threads gain nothing."""


def write_weights(
    directory: Path,
    plan: Iterable[TensorPlan],
    seed: int,
    progress: Progress | None = None,
    *,
    threads: int = THREADS,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> dict[str, str]:
    """Write `plan` into `directory` as safetensors and give the SHA-256 of every file written, by name.

    Tied tensors are left out; above `max_shard_bytes` there are shards and an index. Neither `threads` nor the
    machine changes a byte. Raises OSError, at once where the disk has no room for it all, and OverflowError where a
    tensor's dtype cannot hold its values.
    """
    parts = shards(written(plan), max_shard_bytes)
    total = sum(part.data_bytes for part in parts)
    _require_space(directory, total)
    advance = _meter(total, progress)
    digests = {}
    with ThreadPoolExecutor(threads) as pool:
        for part in parts:
            digests[part.name] = _write(directory / part.name, part.header(), _data(part, seed, pool, threads), advance)
    if len(parts) > 1:
        digests[INDEX_NAME] = _write(directory / INDEX_NAME, index(parts))
    return digests


def _require_space(directory: Path, total: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < total:
        raise OSError(errno.ENOSPC, f"the weights take {total:,} bytes and {free:,} are free", str(directory))


def _meter(total: int, progress: Progress | None) -> Callable[[int], None]:
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    return advance


def _write(
    path: Path,
    start: bytes,
    pieces: Iterable[memoryview] = (),
    advance: Callable[[int], None] = lambda size: None,
) -> str:
    digest = sha256(start)
    with path.open("wb") as file:
        file.write(start)
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
            advance(piece.nbytes)
    return digest.hexdigest()


def _data(part: Shard, seed: int, pool: ThreadPoolExecutor, ahead: int) -> Iterator[memoryview]:
    """The data of `part` in order, with at most `ahead` pieces drawn or being drawn beyond the one in use."""
    pending: deque[Future[memoryview]] = deque()
    for tensor, start, stop in _chunks(part):
        pending.append(pool.submit(draw, tensor, start, stop, seed))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _chunks(part: Shard) -> Iterator[tuple[TensorPlan, int, int]]:
    for tensor in part.tensors:
        step = CHUNK_BYTES // item_bytes(tensor)
        for start in range(0, tensor.numel, step):
            yield tensor, start, min(start + step, tensor.numel)
