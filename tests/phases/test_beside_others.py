"""Phases that begin anew stand beside every kind of layer: training sees what a forward pass of its own would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from eulerc.api import build
from tests.variants import VARIANTS

MODES = """
execution_modes:
  - {name: plan, max_tokens: 3, kv_share: true, loss_weight: 0.5}
  - {name: think, max_tokens: 2}
  - {name: answer, max_tokens: 4, loss_weight: 2.0}
transition: {type: budget_exhausted}
"""
BESIDE = (
    "branched",
    "depth_alibi",
    "differential",
    "hashed_experts",
    "integrated",
    "latent_chunks",
    "looped_mixers",
    "mamba2_beside_attention",
    "retention_beside_all",
    "shared_kv_groups",
)


@pytest.mark.parametrize("name", BESIDE)
@torch.no_grad()
def test_phases_begin_anew_beside_every_kind_of_layer(name: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(VARIANTS[name].rstrip() + MODES)
    build(tmp_path / "spec.yaml", tmp_path / "model", tokenizer=False)
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=True).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in lm.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    prompt = torch.randint(3, 90, (2, 5), generator=generator)
    ids = lm.generate(prompt, do_sample=False, suppress_tokens=[0])
    assert ids.shape == (2, 5 + 3 + 2 + 4)
    assert torch.equal(lm.generate(prompt, do_sample=False, suppress_tokens=[0], use_cache=False), ids)
    labels = ids.clone()
    labels[:, :5] = -100
    logits = lm(ids, labels=labels).logits
    # The answer follows prompt and plan; plan and thoughts follow what stands before them
    without = lm(torch.cat((ids[:, :8], ids[:, 10:]), dim=1), use_cache=False).logits
    torch.testing.assert_close(logits[:, 9:13], without[:, 7:11], rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(logits[:, 4:9], lm(ids[:, :9], use_cache=False).logits[:, 4:9], rtol=2e-5, atol=2e-5)
    assert torch.equal(ids[:, 10:], without[:, 7:11].index_fill(-1, torch.tensor([0]), -torch.inf).argmax(dim=-1))
