"""`make compat INTERPRETERS`: one dense, one mixture-of-experts and one hybrid model, under each transformers given."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
EULERC = Path(sys.executable).with_name("eulerc")
SPECS = ("dense", "moe", "hybrid")


def main(interpreters: list[str]) -> int:
    failed = []
    with tempfile.TemporaryDirectory(prefix="eulerc-compat-") as parent:
        os.environ["HF_MODULES_CACHE"] = str(Path(parent) / "modules")
        for name in SPECS:
            spec, directory = ROOT / "tests" / "compat" / f"{name}.yaml", Path(parent) / name
            subprocess.run([EULERC, "build", spec, "--emit", "hf", "-o", directory], check=True)
            for interpreter in interpreters:
                print(f"{name}: {interpreter}", flush=True)
                command: list[str | Path] = [ROOT / interpreter, "-I", ROOT / "scripts" / "run_model.py", directory]
                if subprocess.run(command, check=False).returncode:
                    failed.append(f"{name} with {interpreter}")
    print(f"failed: {', '.join(failed)}" if failed else "every model loads and generates with every transformers")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
