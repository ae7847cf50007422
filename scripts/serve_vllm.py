"""`make vllm`: a dense model, one of experts and one that shares keys, served by vLLM's backend for transformers.

It runs in two environments: in the project's, where it builds the models and generates with transformers, and, told
`--serve DIRECTORY`, in vLLM's, which has no eulerc. The greedy tokens of both must be equal.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SPECS = ("dense", "moe", "sharing")
NEW_TOKENS = 24
PROMPTS = [[5, 9, 301, 44, 17], [7] * 3 + list(range(20, 60)), [400, 3, 77, 150, 212, 9, 31, 8]]
"""Token ids, one prompt a list; the second is longer than the window of the dense model."""


def with_transformers(directory: Path) -> list[list[int]]:
    """The tokens that `generate` gives, prompt by prompt."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)
    found = []
    for prompt in PROMPTS:
        output = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0)
        found.append(output[0, len(prompt) :].tolist())
    return found


def with_vllm(directory: Path) -> list[list[int]]:
    """The tokens that vLLM gives for all prompts in one batch."""
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found, unused-ignore]

    engine = LLM(
        model=str(directory),
        model_impl="transformers",
        trust_remote_code=True,
        skip_tokenizer_init=True,
        dtype="float32",
        enforce_eager=True,
        max_model_len=128,
        max_num_seqs=4,
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False)
    outputs = engine.generate([{"prompt_token_ids": prompt} for prompt in PROMPTS], sampling)
    return [list(output.outputs[0].token_ids) for output in outputs]


def served(interpreter: Path, directory: Path) -> list[list[int]]:
    """The same, from a process of vLLM's environment."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    result = directory.with_suffix(".json")
    command: list[str | Path] = [interpreter, Path(__file__), "--serve", directory, "--result", result]
    subprocess.run(command, check=True, env=environment)
    tokens: list[list[int]] = json.loads(result.read_text(encoding="utf-8"))
    return tokens


def compare(interpreter: Path, specs: list[Path]) -> int:
    """Builds and compares every spec; the number of models whose tokens differ."""
    differing = 0
    with tempfile.TemporaryDirectory(prefix="eulerc-vllm-") as parent:
        os.environ["HF_MODULES_CACHE"] = str(Path(parent) / "modules")
        for spec in specs:
            directory = Path(parent) / spec.stem
            eulerc = Path(sys.executable).with_name("eulerc")
            subprocess.run([eulerc, "build", spec, "-o", directory, "--no-tokenizer"], check=True)
            wanted, found = with_transformers(directory), served(interpreter, directory)
            equal = found == wanted
            differing += not equal
            print(f"{spec.stem}: {'equal' if equal else 'NOT EQUAL'}, {len(wanted)} prompts of {NEW_TOKENS} new tokens")
            if not equal:
                print(f"  transformers {wanted}\n  vLLM         {found}")
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interpreter", type=Path, nargs="?", help="Python of vLLM's environment")
    parser.add_argument("specs", type=Path, nargs="*", help="spec files; those of tests/serving if none")
    parser.add_argument("--serve", type=Path, help="serve this directory here")
    parser.add_argument("--result", type=Path, help="where to write the tokens")
    options = parser.parse_args()
    if options.serve is not None:
        options.result.write_text(json.dumps(with_vllm(options.serve)), encoding="utf-8")
        return 0
    specs = options.specs or [ROOT / "tests" / "serving" / f"{name}.yaml" for name in SPECS]
    return 1 if compare(options.interpreter.absolute(), specs) else 0


if __name__ == "__main__":
    raise SystemExit(main())
