"""`make bench`: how long the compiler takes, beside what the machine needs for the same bytes."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
EULERC = Path(sys.executable).with_name("eulerc")
PRESET = ROOT / "presets" / "validated" / "smollm2-135m.yaml"
REPEATS = 5


def seconds(*command: str | Path) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def seconds_to_write(size: int, path: Path) -> float:
    block = os.urandom(1 << 24)
    started = time.perf_counter()
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
        os.fsync(file.fileno())
    return time.perf_counter() - started


def main() -> None:
    for command in ("lint", "stats"):
        best = min(seconds(EULERC, command, PRESET) for _ in range(REPEATS))
        print(f"{command:<8} {best:6.2f} s   best of {REPEATS}, the start of Python included")
    with tempfile.TemporaryDirectory(prefix="eulerc-bench-") as parent:
        directory = Path(parent) / "model"
        build = seconds(EULERC, "build", PRESET, "--emit", "hf", "-o", directory)
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        plain = seconds_to_write(size, Path(parent) / "plain")
    # ru_maxrss is in KiB on Linux, and the build is by far the largest child.
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{'build':<8} {build:6.2f} s   {size / build / 1e6:.0f} MB/s, peak memory {memory:.0f} MiB")
    print(
        f"{'write':<8} {plain:6.2f} s   {size / plain / 1e6:.0f} MB/s, the same {size / 1e6:.0f} MB written and synced"
    )


if __name__ == "__main__":
    main()
