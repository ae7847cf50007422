"""Tiny models that generate in phases, and what such generation must be, row by row in plain Python."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LogitsProcessor

from eulerc.api import build

ROOT = Path(tempfile.mkdtemp(prefix="eulerc_phases_"))
BYTES = {"bos": 256, "eos": 257, "pad": 258, "transition": 259}
"""Ids of the tokenizer of bytes, with one token more."""

SPEC = """
schema_version: 1
model: {name: NAME, d_model: 64, vocab_size: 264, max_seq_len: 128, n_heads: 4, n_kv_heads: 2, dtype: float32}
tokenizer_contract: {type: hf, pretrained: bytes, add_bos: false}
layer_templates:
  near: {mixer: {type: attention, attention: {window: 6}}, ffn: {type: gated_mlp, intermediate_size: 96}}
  far: {mixer: {type: attention}, ffn: {type: gated_mlp, intermediate_size: 96}}
layer_schedule: [{pattern: [near, far]}]
execution_modes: MODES
TRANSITION
"""
TRANSITIONS = {
    "token": 'transition: {type: special_token, token: "<think_end>"}',
    "budget": "transition: {type: budget_exhausted}",
}

THREE = (
    {"name": "plan", "max_tokens": 4},
    {"name": "think", "max_tokens": 6},
    {"name": "answer", "max_tokens": 5},
)
KINDS: dict[str, tuple[dict[str, Any], ...]] = {
    "shared": ({"kv_share": True}, {"kv_share": True}, {}),
    "restarted": ({"kv_share": True}, {"kv_share": False}, {}),
    "restarted_twice": ({"kv_share": False}, {"kv_share": False}, {}),
    "hidden": ({"kv_share": True}, {"kv_share": True, "visible_to_user": False}, {}),
    "all": (
        {"kv_share": True, "loss_weight": 0.5},
        {"kv_share": False, "visible_to_user": False, "loss_weight": 0.0},
        {"loss_weight": 2.0},
    ),
    "weighted": ({"kv_share": True, "loss_weight": 0.0}, {"kv_share": True, "loss_weight": 0.25}, {}),
    "one": ({},),
}
"""What phases may be, besides their budgets."""


def modes(kind: str) -> list[dict[str, Any]]:
    """The phases of a kind, every key set."""
    usual = {"kv_share": False, "loss_weight": 1.0, "visible_to_user": True}
    phases = THREE[-len(KINDS[kind]) :]
    return [{**usual, **phase, **own} for phase, own in zip(phases, KINDS[kind], strict=True)]


def text(kind: str, transition: str) -> str:
    """The spec of a kind of phases."""
    lines = (", ".join(f"{key}: {str(value).lower()}" for key, value in mode.items()) for mode in modes(kind))
    spec = SPEC.replace("NAME", f"{kind}_{transition}").replace("MODES", "".join(f"\n  - {{{line}}}" for line in lines))
    return spec.replace("TRANSITION", TRANSITIONS[transition] if len(KINDS[kind]) > 1 else "")


@cache
def directory(kind: str, transition: str) -> Path:
    """The built model of a kind of phases."""
    folder = ROOT / f"{kind}_{transition}"
    folder.mkdir()
    (folder / "spec.yaml").write_text(text(kind, transition))
    build(folder / "spec.yaml", folder / "model")
    return folder / "model"


def model(kind: str, transition: str) -> Any:
    """A fresh model whose weights are large enough for its tokens to differ."""
    loaded = AutoModelForCausalLM.from_pretrained(directory(kind, transition), trust_remote_code=True).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return loaded


class Urge(LogitsProcessor):
    """Makes a row want to end its phase or sequence behind some tokens; tells by the last token alone."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        # Behind embeddings there may be no token yet
        last = input_ids[:, -1:] if input_ids.shape[1] else torch.zeros(len(input_ids), 1, dtype=torch.long)
        scores[:, [BYTES["transition"]]] += 1000.0 * (last % 7 == 2)
        scores[:, [BYTES["eos"]]] += 2000.0 * (last % 11 == 2)
        return scores


def prompts(*lengths: int) -> list[list[int]]:
    """Prompts of bytes."""
    generator = torch.Generator().manual_seed(len(lengths))
    return [torch.randint(32, 127, (length,), generator=generator).tolist() for length in lengths]


def padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """A batch, padded on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[BYTES["pad"]] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def reference(lm: Any, prompt: list[int], phases: list[dict[str, Any]], by_token: bool) -> list[list[int]]:
    """The tokens of every phase, greedily and without a cache: each phase with the token that ends it."""
    context, generated = list(prompt), []
    for number, phase in enumerate(phases):
        is_last = number == len(phases) - 1
        tokens: list[int] = []
        ends = BYTES["eos"] if is_last else BYTES["transition"] if by_token else None
        while ends is None or ends not in tokens:
            if len(tokens) == phase["max_tokens"]:
                tokens += [ends] if ends is not None else []
                break
            ids = torch.tensor([context + tokens])
            scores = Urge()(ids, lm(ids, use_cache=False).logits[:, -1])[0]
            if by_token or not is_last:
                scores[BYTES["transition"] if is_last else BYTES["eos"]] = -torch.inf
            tokens.append(int(scores.argmax()))
        generated.append(tokens)
        if phase["kv_share"]:
            context += tokens
        elif by_token:
            # What opens a phase that is not seen is not seen either
            context = context[:-1] if number else context
            context += tokens[-1:]
    return generated


def shown(generated: list[list[int]], phases: list[dict[str, Any]]) -> list[int]:
    """What the user sees of the phases."""
    visible = zip(generated, phases, strict=True)
    return [token for tokens, phase in visible if phase["visible_to_user"] for token in tokens]


def without_padding(row: list[int]) -> list[int]:
    """A row up to the token that ends it."""
    ends = row.index(BYTES["eos"]) + 1 if BYTES["eos"] in row else len(row)
    assert set(row[ends:]) <= {BYTES["pad"]}
    return row[:ends]
