"""Recurrent mixers in chunks beside the library's torch paths: forward passes and training steps of long sequences."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from attrs import field, frozen
from measure import side_by_side, table
from models import compared

from eulerc.api import build

HEADER = ("mixer", "work", "wall ms", "wall ratio", "CPU ms", "CPU ratio", "95 % interval")
WORKS = ("forward", "training step")
WIDTH, VOCABULARY, LAYERS = 512, 512, 2


@frozen
class Mixer:
    """A mixer as a template has it, and the library's model of layers that have the same."""

    name: str
    mixer: dict[str, Any]
    model: str
    sizes: dict[str, Any]
    ffn: dict[str, Any] = field(factory=lambda: {"type": "none"})
    positional: str = "none"


STATES: dict[str, Any] = {"residual_in_fp32": False, "num_hidden_layers": LAYERS}

MIXERS = (
    Mixer(
        "mamba",
        {"type": "mamba", "mamba": {"variant": "mamba1", "d_state": 16}},
        "MambaForCausalLM",
        {**STATES, "state_size": 16},
    ),
    Mixer(
        "mamba2",
        {"type": "mamba", "mamba": {"d_state": 64, "head_dim": 64, "chunk_size": 256}},
        "Mamba2ForCausalLM",
        {**STATES, "state_size": 64, "head_dim": 64, "num_heads": 16, "n_groups": 1, "chunk_size": 256},
    ),
    Mixer(
        "mlstm",
        {"type": "mlstm", "mlstm": {"chunk_size": 64}},
        "xLSTMForCausalLM",
        {"num_hidden_layers": LAYERS, "num_heads": 8, "chunk_size": 64, "ffn_round_up_to_multiple_of": 64},
        ffn={"type": "gated_mlp", "intermediate_size": 1408},
    ),
)


def spec(mixer: Mixer) -> dict[str, Any]:
    """A model of layers with the mixer."""
    return {
        "schema_version": 1,
        "model": {
            "name": f"{mixer.name}_timed",
            "d_model": WIDTH,
            "vocab_size": VOCABULARY,
            "max_seq_len": 4096,
            "n_heads": 8,
            "dtype": "float32",
        },
        "embedding": {"positional": mixer.positional},
        "head": {"tie_weights": False},
        "layer_templates": {"block": {"mixer": mixer.mixer, "ffn": mixer.ffn}},
        "layer_schedule": [{"template": "block", "repeat": LAYERS}],
    }


def both(mixer: Mixer, directory: Path) -> tuple[Any, Any]:
    """The generated model and the library's; raises SystemExit where they are not of one size."""
    written = directory.with_suffix(".yaml")
    written.write_text(json.dumps(spec(mixer)))
    build(written, directory, weights="none", tokenizer=False)
    config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=True)
    ours = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    kind = getattr(transformers, mixer.model)
    sizes = {"hidden_size": WIDTH, "vocab_size": VOCABULARY, "tie_word_embeddings": False, **mixer.sizes}
    theirs = kind(kind.config_class(**sizes))
    counts = [sum(tensor.numel() for tensor in model.parameters()) for model in (ours, theirs)]
    if counts[0] != counts[1]:
        raise SystemExit(f"{mixer.name}: {counts[0]} parameters beside {counts[1]}")
    return ours, theirs


@torch.no_grad()
def forward(model: Any, ids: torch.Tensor) -> None:
    model(ids, use_cache=False)


def train(model: Any, ids: torch.Tensor) -> None:
    """Forward with loss, and backward."""
    model(ids, labels=ids, use_cache=False).loss.backward()
    model.zero_grad()


def task(work: str, model: Any, ids: torch.Tensor) -> Callable[[], object]:
    model.train(work != "forward")
    return partial(forward if work == "forward" else train, model, ids)


def rows(mixer: Mixer, length: int, rounds: int, directory: Path) -> Iterator[list[str]]:
    """One row for each kind of work."""
    ours, theirs = both(mixer, directory)
    ids = torch.randint(0, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(1))
    for work in WORKS:
        left, right = side_by_side(task(work, ours, ids), task(work, theirs, ids), rounds, warm_up=1)
        yield [mixer.name, work, *compared(left, right)]


def main() -> None:
    names = [mixer.name for mixer in MIXERS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--mixer", nargs="+", choices=names, default=names)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    found = []
    with tempfile.TemporaryDirectory(prefix="eulerc-bench-") as parent:
        for mixer in (mixer for mixer in MIXERS if mixer.name in chosen.mixer):
            for row in rows(mixer, chosen.length, chosen.rounds, Path(parent) / mixer.name):
                print(*row, sep="  ", file=sys.stderr, flush=True)
                found.append(row)
    print(f"{LAYERS} layers of width {WIDTH}, (1, {chosen.length}) tokens, medians of {chosen.rounds} rounds\n")
    print(table(HEADER, found))


if __name__ == "__main__":
    main()
