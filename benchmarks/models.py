"""Generated models beside the library's classes: forward, training step and cached decoding, with the same weights."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from attrs import frozen
from measure import Cost, middle, ratio, side_by_side, table
from pairs import PAIRS, Pair, both
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

BATCH, LENGTH = 2, 128
PROMPT, NEW_TOKENS = 16, 64
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WORKS = ("forward", "training step", "decode")
HEADER = ("model", "dtype", "attention", "work", "ops", "wall ms", "wall ratio", "CPU ms", "CPU ratio", "95 % interval")


@frozen
class Setting:
    """What is measured, and on what."""

    pair: Pair
    attention: str
    dtype: str
    rounds: int
    directory: Path


def tokens(batch: int, length: int) -> torch.Tensor:
    """Random ids, (batch, length)."""
    return torch.randint(0, 4096, (batch, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def forward(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Logits of a batch, without a cache."""
    logits: torch.Tensor = model(ids, use_cache=False).logits
    return logits


@torch.no_grad()
def decode(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The prompt, then greedy tokens one by one through the cache, (batch, NEW_TOKENS)."""
    past, found = DynamicCache(config=model.config), []
    for _ in range(NEW_TOKENS):
        ids = model(ids, past_key_values=past, use_cache=True, logits_to_keep=1).logits.argmax(dim=-1)
        found.append(ids)
    return torch.cat(found, dim=1)


def trainer(model: Any, arguments: dict[str, Any]) -> Callable[[], None]:
    """A training step: forward with loss, backward, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ids = tokens(BATCH, LENGTH)

    def step() -> None:
        model(ids, labels=ids, use_cache=False, **arguments).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def task(work: str, model: Any, pair: Pair) -> Callable[[], object]:
    """A call that does the work; sets the mode of the model."""
    model.train(work == "training step")
    if work == "forward":
        return partial(forward, model, tokens(BATCH, LENGTH))
    if work == "decode":
        return partial(decode, model, tokens(1, PROMPT))
    return trainer(model, pair.training)


class Operations(TorchDispatchMode):
    """Counts torch's operations, those of the backward pass and the optimizer too: the same on any machine."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(work: Callable[[], object]) -> int:
    """The operations of one call."""
    with Operations() as counted:
        work()
    return counted.count


def check_equal(ours: Any, theirs: Any, dtype: str) -> None:
    """Comparing times makes sense only between models that compute the same."""
    ids = tokens(BATCH, LENGTH)
    found, wanted = forward(ours.eval(), ids), forward(theirs.eval(), ids)
    bound = (1e-5 if dtype == "float32" else 5e-2) * wanted.abs().max().item()
    distance = (found - wanted).abs().max().item()
    if distance > bound:
        raise SystemExit(f"logits differ by {distance:.2g}, more than {bound:.2g}")


def rows(setting: Setting, works: list[str]) -> Iterator[list[str]]:
    """One row for each kind of work; the columns are those of HEADER, ours before theirs."""
    pair = setting.pair
    ours, theirs = both(pair, setting.directory / pair.name, setting.attention, DTYPES[setting.dtype])
    check_equal(ours, theirs, setting.dtype)
    for work in works:
        calls = task(work, ours, pair), task(work, theirs, pair)
        counts = " / ".join(str(operations(call)) for call in calls)
        left, right = side_by_side(*calls, setting.rounds)
        yield [pair.name, setting.dtype, setting.attention, work, counts, *compared(left, right)]


def compared(left: list[Cost], right: list[Cost]) -> list[str]:
    """The columns of times: ours / theirs in ms, and their ratio."""
    ours, theirs = middle(left), middle(right)
    wall = ratio([cost.wall for cost in left], [cost.wall for cost in right])
    cpu = ratio([cost.cpu for cost in left], [cost.cpu for cost in right])
    return [
        f"{ours.wall * 1000:.0f} / {theirs.wall * 1000:.0f}",
        f"{wall.value:.3f}",
        f"{ours.cpu * 1000:.0f} / {theirs.cpu * 1000:.0f}",
        f"{cpu.value:.3f}",
        f"{cpu.low:.3f} to {cpu.high:.3f}",
    ]


def arguments() -> argparse.Namespace:
    names = [pair.name for pair in PAIRS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="of torch; one by default, so that CPU time is work")
    parser.add_argument("--model", nargs="+", choices=names, default=names)
    parser.add_argument("--attention", nargs="+", choices=("sdpa", "eager"), default=["sdpa", "eager"])
    parser.add_argument("--dtype", nargs="+", choices=list(DTYPES), default=["float32"])
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    transformers.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {os.cpu_count()} cores,", end=" ")
    print(f"{chosen.threads} of torch's threads; medians of {chosen.rounds} interleaved rounds")
    print(f"forward and training step: ({BATCH}, {LENGTH}) tokens; decode: {NEW_TOKENS} tokens after {PROMPT}\n")
    print(table(HEADER, list(measured(chosen))))


def measured(chosen: argparse.Namespace) -> Iterator[list[str]]:
    """The rows of all settings that were chosen."""
    pairs = [pair for pair in PAIRS if pair.name in chosen.model]
    with tempfile.TemporaryDirectory(prefix="eulerc-bench-") as parent:
        for pair, dtype, attention in product(pairs, chosen.dtype, chosen.attention):
            if attention not in pair.attentions:
                continue
            for row in rows(Setting(pair, attention, dtype, chosen.rounds, Path(parent)), chosen.work):
                # The table takes minutes: what is there already can be read meanwhile
                print(*row, sep="  ", file=sys.stderr, flush=True)
                yield row


if __name__ == "__main__":
    main()
