"""Layers at the end that keep no keys and values run for the tokens alone whose logits are asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import StaticCache

sys.path.insert(0, str(Path(__file__).parent))
from builds import close, model, tokens

NAMES = ("shared_kv_by_type", "shared_kv_groups", "shared_kv_alibi")
LENGTH = 14


def watched(name: str, implementation: str) -> tuple[Any, list[int]]:
    """A model, and a list that grows with every call by how many tokens the last layer has run."""
    lm = model(name)
    lm.set_attn_implementation(implementation)
    found: list[int] = []
    lm.model.layers[-1].register_forward_hook(lambda module, inputs, output: found.append(output[0].shape[1]))
    return lm, found


def padded() -> dict[str, torch.Tensor]:
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[1, :4] = 0
    return {"attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kept", [1, 3])
@pytest.mark.parametrize("inputs", [{}, padded()], ids=["plain", "padded"])
@torch.no_grad()
def test_the_last_logits_are_those_of_a_run_of_all_tokens(name: str, kept: int, inputs: dict[str, Any]) -> None:
    lm, ran = watched(name, "eager")
    ids = tokens(2, LENGTH)
    whole = lm(ids, use_cache=False, **inputs).logits
    last = lm(ids, use_cache=False, logits_to_keep=kept, **inputs).logits
    assert ran == [LENGTH, kept]
    assert close(last, whole[:, -kept:])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@torch.no_grad()
def test_decoding_goes_on_behind_a_prompt_of_which_one_token_ran(name: str, cache: str) -> None:
    lm, ran = watched(name, "eager")
    ids = tokens(2, LENGTH)
    whole = lm(ids, use_cache=False).logits
    past = StaticCache(config=lm.config, max_cache_len=LENGTH + 2) if cache == "static" else None
    output = lm(ids[:, :9], use_cache=True, logits_to_keep=1, past_key_values=past)
    assert ran[1:] == [1]
    assert close(output.logits, whole[:, 8:9])
    # A second chunk behind the first, all of it
    second = lm(ids[:, 9:], past_key_values=output.past_key_values, use_cache=True, logits_to_keep=2)
    assert ran[2:] == [2]
    assert close(second.logits, whole[:, -2:])


@torch.no_grad()
def test_without_masks_only_the_last_token_runs_alone() -> None:
    name = "shared_kv_by_type"
    lm, ran = watched(name, "sdpa")
    # No longer than the window, so that neither kind of layer has a mask
    ids = tokens(1, 4)
    whole = lm(ids, use_cache=False).logits
    for kept in (1, 2):
        assert close(lm(ids, use_cache=False, logits_to_keep=kept).logits, whole[:, -kept:])
    assert ran == [4, 1, 4]


@torch.no_grad()
def test_what_is_recorded_is_of_all_tokens() -> None:
    lm, ran = watched("shared_kv_by_type", "eager")
    ids = tokens(1, LENGTH)
    output = lm(ids, use_cache=False, logits_to_keep=1, output_hidden_states=True)
    assert {states.shape[1] for states in output.hidden_states} == {LENGTH}
    assert output.logits.shape[1] == 1
    chosen = lm(ids, use_cache=False, logits_to_keep=torch.tensor([2, 5])).logits
    assert chosen.shape[1] == 2
    assert ran == [LENGTH, LENGTH]
