"""RWKV of the library halves the stream every few layers at inference: larger eps of the norms behind say the same."""

from __future__ import annotations

import pytest
import torch

from tests.families import harness
from tests.families.harness import Case
from tests.families.rwkvs import RWKV, SIZES, rwkv


def rescaled() -> Case:
    """The stream halved behind both layers: norms see a quarter and a sixteenth of the mean square."""
    spec = rwkv("rwkv_rescaled", {})
    block = spec["layer_templates"]["block"]
    spec["layer_templates"]["deeper"] = {**block, "norm": {"type": "layernorm", "eps": 4e-5}}
    spec["layer_schedule"] = [{"pattern": ["block", "deeper"]}]
    spec["head"]["norm"]["eps"] = 16e-5
    return Case(spec, {**SIZES, "rescale_every": 1})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_halving_the_stream_is_an_eps_four_times_as_large(dtype: torch.dtype) -> None:
    case = rescaled()
    # Small states, beside which eps counts
    state = {name: tensor * 0.02 for name, tensor in harness.weights(RWKV, case, harness.NOISE).items()}
    wanted = harness.logits_of(harness.original(RWKV, case, state, dtype))
    ours = {name: tensor.clone() for name, tensor in harness.renamed(state, RWKV.renames).items()}
    assert torch.equal(harness.logits_of(harness.ours(case.spec, ours, dtype)), wanted)
    plain = harness.ours(RWKV.cases["base"].spec, ours, dtype)
    assert not torch.equal(harness.logits_of(plain), wanted)
