"""The compiler's commands beside transformers doing the same work: CPU time, wall time, peak memory."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from measure import Cost, child, middle, table

ROOT = Path(__file__).parents[1]
PRESET = ROOT / "presets" / "validated" / "smollm2-135m.yaml"
EULERC = (sys.executable, "-c", "from eulerc.cli.main import main; main()")
LIBRARY = (sys.executable, ROOT / "benchmarks" / "library_work.py")

WEIGHT_BYTES = 2 * 134_515_008

Command = tuple[str | Path, ...]


def commands(output: Path) -> dict[str, tuple[Command, Command]]:
    """Every kind of work: eulerc's command, and the library's counterpart."""
    ours, theirs = output / "eulerc", output / "library"
    build = (*EULERC, "build", PRESET, "-o", ours)
    return {
        "start of Python": ((sys.executable, "-c", "pass"), (sys.executable, "-c", "import torch, transformers")),
        "`lint` / model on the meta device": ((*EULERC, "lint", PRESET), (*LIBRARY, "check")),
        "`dump-ir` / the model printed": ((*EULERC, "dump-ir", PRESET), (*LIBRARY, "print")),
        "`stats` / parameters counted": ((*EULERC, "stats", PRESET), (*LIBRARY, "count")),
        "`build --weights none` / config saved": (
            (*build, "--weights", "none", "--no-tokenizer"),
            (*LIBRARY, "config", theirs),
        ),
        "`build` / `from_config`, `save_pretrained`": ((*build, "--no-tokenizer"), (*LIBRARY, "save", theirs)),
    }


def seconds_to_write(size: int, path: Path) -> float:
    """What the disk needs for as many bytes, synced."""
    block = os.urandom(1 << 24)
    started = time.perf_counter()
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
        os.fsync(file.fileno())
    return time.perf_counter() - started


def shown(cost: Cost) -> list[str]:
    return [f"{cost.cpu:.2f}", f"{cost.wall:.2f}", f"{cost.peak:.0f}"]


def measured(rounds: int, output: Path) -> list[list[str]]:
    """One row for each kind of work, the rounds going through all of them."""
    costs: dict[tuple[str, int], list[Cost]] = {}
    for _ in range(rounds):
        for name, sides in commands(output).items():
            for side, command in enumerate(sides):
                for directory in output.iterdir():
                    shutil.rmtree(directory)
                costs.setdefault((name, side), []).append(child(command, ROOT))
    return [[name, *shown(middle(costs[name, 0])), *shown(middle(costs[name, 1]))] for name in commands(output)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="eulerc-bench-") as parent:
        rows = measured(rounds, Path(parent))
        plain = seconds_to_write(WEIGHT_BYTES, Path(parent) / "plain")
    print(f"{PRESET.stem}: medians of {rounds} interleaved rounds, the start of Python included\n")
    sides = [f"{side} {what}" for side in ("eulerc", "library") for what in ("CPU s", "wall s", "peak MiB")]
    print(table(["eulerc / transformers", *sides], rows))
    print(f"\n{plain:.2f} s to write and sync as many bytes as the weights have, {WEIGHT_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
