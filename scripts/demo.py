"""`make demo`: from a preset to generated tokens, one command after the other."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
EULERC = Path(sys.executable).with_name("eulerc")
PRESET = Path("presets") / "validated" / "smollm2-135m.yaml"


def run(*command: str | Path) -> None:
    shown = " ".join(
        Path(part).name if isinstance(part, Path) and part.is_absolute() else str(part) for part in command
    )
    print(f"\n$ {shown}", flush=True)
    started = time.perf_counter()
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status:
        raise SystemExit(f"the command above ended with status {status}")
    print(f"({time.perf_counter() - started:.1f} s)", flush=True)


def show_files(directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        print(f"  {path.stat().st_size:>13,}  {path.name}")


def main() -> None:
    print(f"The design: {PRESET}\n")
    print((ROOT / PRESET).read_text(encoding="utf-8").rstrip())

    print("\nWhat it is: the schedule of layers, the wiring of one layer, and the numbers.")
    run(EULERC, "dump-ir", PRESET, "--stage", "layers")
    run(EULERC, "stats", PRESET)

    with tempfile.TemporaryDirectory(prefix="eulerc-demo-") as parent:
        directory = Path(parent) / "smollm2-135m"
        print("\nThe build: code, config, freshly initialised weights, tokenizer. No torch is imported here.")
        run(EULERC, "build", PRESET, "--emit", "hf", "-o", directory)
        show_files(directory)

        print("\nThe use: transformers alone, in a process that cannot import eulerc.")
        os.environ.setdefault("HF_MODULES_CACHE", str(Path(parent) / "modules"))
        run(Path(sys.executable), "-I", ROOT / "scripts" / "run_model.py", directory)

    print("\nThe weights are random, so the text is noise: eulerc builds models, it does not train them.")


if __name__ == "__main__":
    main()
