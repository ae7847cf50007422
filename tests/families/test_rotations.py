"""Every order of dims and dtypes that a rope can rotate in, under plain and latent attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.families import harness
from tests.families.routed import MLA
from tests.families.specs import block, document

PRECISIONS = ("model", "float32", "float32_rotation")
every_kind = pytest.mark.parametrize("latent", [False, True], ids=["plain", "latent"])
every_share = pytest.mark.parametrize("partial", [1.0, 0.5], ids=["whole", "partial"])
every_pairing = pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "neighbours"])


def logits(rope: dict[str, Any], latent: bool, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits in full and token by token of a model whose weights depend on the seed alone."""
    attention = {"rope": rope, **({"mla": MLA} if latent else {})}
    spec = document("rotating", {"block": block(attention)})
    generator = torch.Generator().manual_seed(3)
    state = harness.ours(spec, None).state_dict()
    perturbed = {
        name: 0.15 * torch.randn(tensor.shape, generator=generator) + (tensor.dim() == 1)
        for name, tensor in state.items()
    }
    model = harness.ours(spec, perturbed, dtype)
    with torch.no_grad():
        return harness.logits_of(model), harness.decoded(model, {"input_ids": harness.tokens()})


@every_kind
@every_share
@every_pairing
def test_a_precision_moves_bfloat16_and_leaves_float32(interleaved: bool, partial: float, latent: bool) -> None:
    ropes = [{"interleaved": interleaved, "partial": partial, "precision": name} for name in PRECISIONS]
    model, float32, rotation = (logits(rope, latent, torch.bfloat16)[0] for rope in ropes)
    assert not torch.equal(model, float32)
    assert not torch.equal(model, rotation)
    assert not torch.equal(float32, rotation)
    wide = [logits(rope, latent, torch.float32)[0] for rope in ropes]
    limit = 2e-5 * max(1.0, wide[0].abs().max().item())
    assert all(harness.distance(other, wide[0]) <= limit for other in wide[1:])


@every_kind
@every_share
@every_pairing
def test_decoding_rotates_as_prefill_does(interleaved: bool, partial: float, latent: bool) -> None:
    full, cached = logits({"interleaved": interleaved, "partial": partial}, latent, torch.float32)
    assert harness.distance(cached, full) <= 2e-5 * max(1.0, full.abs().max().item())


@every_kind
@every_share
def test_pairing_matters(partial: float, latent: bool) -> None:
    halves, neighbours = (
        logits({"interleaved": interleaved, "partial": partial}, latent, torch.float32)[0]
        for interleaved in (False, True)
    )
    assert harness.distance(halves, neighbours) > 0.01
