"""The preset that has everything in one model: it says so, and it trains."""

from __future__ import annotations

import json

import torch

from eulerc.api import lint
from tests.families import harness
from tests.presets.siblings import sibling

NAME = "arch_expert_kitchen_sink"


def is_finite(gradient: torch.Tensor | None) -> bool:
    return gradient is not None and bool(gradient.isfinite().all())


def test_preset_has_every_primitive_that_it_is_said_to_have() -> None:
    module = lint(NAME).module
    assert module is not None
    ops = {op.name for template in module.all("template") for op in template.ops}
    assert {"mixer.latent_attention", "ffn.moe", "memory.neural", "depth_gate"} <= ops
    assert [op["kind"] for op in module.one("graph").ops if op.name == "merge"] == ["gated"]
    assert [op["method"] for op in module.one("graph").ops if op.name == "integrate"] == ["ode_rk4"]
    assert [mode["name"] for mode in module.one("phases")["execution_modes"]] == ["think", "answer"]


def test_sibling_learns() -> None:
    model = harness.ours(json.loads(json.dumps(sibling(NAME))), None).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (4, 24), generator=generator)
    losses = []
    for _ in range(30):
        loss = model(ids, labels=ids).loss
        loss.backward()
        assert [name for name, found in model.named_parameters() if not is_finite(found.grad)] == []
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
