"""Experts compute the same by every implementation of the library; what needs token ids says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from builds import VARIANTS, close, model, tokens

NAMES = tuple(name for name, text in VARIANTS.items() if "type: moe" in text)


@pytest.mark.parametrize("implementation", ["batched_mm", "grouped_mm"])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_implementations_of_experts_agree(name: str, implementation: str) -> None:
    lm = model(name)
    ids = tokens(2, 9)
    lm.set_experts_implementation("eager")
    wanted = lm(ids, use_cache=False).logits
    lm.set_experts_implementation(implementation)
    assert close(lm(ids, use_cache=False).logits, wanted)


def test_hashed_experts_ask_for_token_ids() -> None:
    lm = model("hashed_experts")
    with pytest.raises(ValueError, match="pass input_ids"):
        lm(inputs_embeds=lm.get_input_embeddings()(tokens(1, 3)))
