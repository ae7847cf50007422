"""Times of child processes and of calls, compared side by side: the rounds are interleaved, so that load hits both."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from attrs import frozen

RESAMPLES = 1000


@frozen
class Cost:
    """Seconds on the clock, seconds of all threads on the CPU, and the peak of resident memory in MiB."""

    wall: float
    cpu: float
    peak: float = 0.0


@frozen
class Ratio:
    """A ratio of medians, and the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def child(command: Sequence[str | Path], directory: Path) -> Cost:
    """What a command costs, run in `directory`; raises CalledProcessError if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    # Linux counts ru_maxrss in KiB
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def call(work: Callable[[], object]) -> Cost:
    """What a call costs in this process."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def middle(costs: Sequence[Cost]) -> Cost:
    """The medians."""
    return Cost(*(median(getattr(cost, name) for cost in costs) for name in ("wall", "cpu", "peak")))


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, warm_up: int = 2
) -> tuple[list[Cost], list[Cost]]:
    """Costs of two calls, in pairs; the order within a pair alternates."""
    for _ in range(warm_up):
        ours()
        theirs()
    pairs = []
    for index in range(rounds):
        if index % 2:
            second, first = call(theirs), call(ours)
        else:
            first, second = call(ours), call(theirs)
        pairs.append((first, second))
    return [first for first, _ in pairs], [second for _, second in pairs]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Median over median, with the spread that resampling the pairs gives it."""
    generator = random.Random(0)
    found = []
    for _ in range(RESAMPLES):
        chosen = generator.choices(range(len(ours)), k=len(ours))
        found.append(median(ours[index] for index in chosen) / median(theirs[index] for index in chosen))
    found.sort()
    return Ratio(median(ours) / median(theirs), found[RESAMPLES // 40], found[-RESAMPLES // 40 - 1])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = [f":{'-' * (width - 1)}" if column == 0 else f"{'-' * (width - 1)}:" for column, width in enumerate(widths)]
    lines = [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in (header, *rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
