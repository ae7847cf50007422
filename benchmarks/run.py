"""`make bench`: the compiler's commands, then the models it generates, each beside transformers doing the same."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="eulerc-bench-") as modules:
        # Generated code, which transformers copies before it imports it, stays out of the user's own cache
        environment = {**os.environ, "HF_MODULES_CACHE": modules, "HF_HUB_OFFLINE": "1"}
        for script in ("compiler.py", "models.py", "mixers.py"):
            subprocess.run([sys.executable, HERE / script], env=environment, check=True)
            print(flush=True)


if __name__ == "__main__":
    main()
