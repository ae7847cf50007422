"""What the user of a built directory does, in a process that cannot import eulerc: load it and generate."""

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class WithoutEulerc:
    """An import hook that answers for a machine on which eulerc is not installed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] == "eulerc":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def generate(directory: Path, prompt: str, new_tokens: int) -> None:
    import torch
    import transformers

    started = time.perf_counter()
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    print(f"  {type(model).__name__}, {model.num_parameters():,} parameters, {model.dtype}")
    print(f"  loaded in {time.perf_counter() - started:.1f} s with transformers {transformers.__version__}")

    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    torch.manual_seed(0)
    started = time.perf_counter()
    output = model.generate(**inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=True)
    seconds = time.perf_counter() - started
    new = output[0, inputs["input_ids"].shape[1] :].tolist()
    print(f"  prompt  {prompt!r} = {inputs['input_ids'][0].tolist()}")
    print(f"  sampled {new} in {seconds:.1f} s")
    print(f"  as text {tokenizer.decode(new)!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--prompt", default="A language model reads")
    parser.add_argument("--tokens", type=int, default=12, help="how many to generate")
    options = parser.parse_args()

    sys.meta_path.insert(0, WithoutEulerc())
    try:
        import eulerc
    except ModuleNotFoundError as error:
        print(f"  Python {platform.python_version()}, import eulerc: {error}")
    else:
        print(f"  eulerc was imported from {eulerc.__file__}", file=sys.stderr)
        return 1
    generate(options.directory, options.prompt, options.tokens)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
