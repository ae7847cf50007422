"""The norms equal the library's in float32 and, bit for bit, in bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.axk2.configuration_axk2 import AXK2Config
from transformers.models.axk2.modeling_axk2 import AXK2GatedRMSNorm
from transformers.models.cohere2.modeling_cohere2 import Cohere2LayerNorm
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.nanochat.modeling_nanochat import NanoChatRMSNorm
from transformers.models.nemotron.modeling_nemotron import NemotronLayerNorm1P
from transformers.models.olmo.modeling_olmo import OlmoLayerNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from eulerc.backends.hf.components.layer_norm import (
    BiaslessLayerNorm,
    Float32LayerNorm,
    StableBiaslessLayerNorm,
    StableLayerNorm,
    StableUnitOffsetLayerNorm,
    UnitOffsetLayerNorm,
    UnweightedLayerNorm,
)
from eulerc.backends.hf.components.rms_norm import (
    Float32RMSNorm,
    GatedRMSNorm,
    GroupedRMSNorm,
    RMSNorm,
    UnitOffsetRMSNorm,
    UnweightedRMSNorm,
)
from eulerc.backends.hf.components.stable_rms_norm import StableGatedRMSNorm, StableGroupedRMSNorm
from tests.components.harness import copy_weights, perturb

WIDTH, EPS, OLMO_EPS, RANK = 32, 3e-5, 1e-5, 6


PAIRS = [
    (RMSNorm, LlamaRMSNorm),
    (Float32RMSNorm, Olmo2RMSNorm),
    (UnitOffsetRMSNorm, Gemma2RMSNorm),
    (Float32LayerNorm, Cohere2LayerNorm),
    (UnweightedRMSNorm, lambda width, eps: NanoChatRMSNorm(eps=eps)),
    (UnitOffsetLayerNorm, NemotronLayerNorm1P),
    (BiaslessLayerNorm, lambda width, eps: nn.LayerNorm(width, eps=eps, bias=False)),
]

SHOWN = (
    RMSNorm,
    Float32RMSNorm,
    UnitOffsetRMSNorm,
    UnweightedRMSNorm,
    Float32LayerNorm,
    UnweightedLayerNorm,
    UnitOffsetLayerNorm,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[ours.__name__ for ours, _ in PAIRS])
def test_norm_equals_the_library_bit_for_bit(ours, theirs, dtype):
    original = perturb(theirs(WIDTH, eps=EPS)).to(dtype)
    norm = ours(WIDTH, eps=EPS).to(dtype)
    copy_weights(original, norm)
    states = torch.randn(3, 5, WIDTH, dtype=dtype) * 4 + 1
    assert torch.equal(norm(states), original(states))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_norm_without_a_weight_equals_olmos_which_has_one_eps(dtype):
    states = torch.randn(3, 5, WIDTH, dtype=dtype) * 4 + 1
    assert torch.equal(UnweightedLayerNorm(WIDTH, eps=OLMO_EPS)(states), OlmoLayerNorm(WIDTH)(states))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gated_norm_equals_the_library_bit_for_bit(dtype):
    config = AXK2Config(hidden_size=WIDTH, rms_norm_eps=EPS, gated_norm_rank=RANK)
    original = perturb(AXK2GatedRMSNorm(config)).to(dtype)
    norm = GatedRMSNorm(WIDTH, rank=RANK, eps=EPS).to(dtype)
    norm.load_state_dict(dict(zip(norm.state_dict(), original.state_dict().values(), strict=True)))
    states = torch.randn(3, 5, WIDTH, dtype=dtype) * 4 + 1
    assert torch.equal(norm(states), original(states))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_grouped_norm_is_a_norm_of_each_group(dtype):
    states = torch.randn(3, 5, WIDTH, dtype=dtype) * 4 + 1
    norm = perturb(GroupedRMSNorm(WIDTH, groups=4, eps=EPS)).to(dtype)
    parts = []
    for weight, part in zip(norm.weight.chunk(4), states.chunk(4, dim=-1), strict=True):
        single = RMSNorm(WIDTH // 4, eps=EPS).to(dtype)
        single.weight = nn.Parameter(weight)
        parts.append(single(part))
    assert torch.equal(norm(states), torch.cat(parts, dim=-1))


STABLE = [
    (Float32RMSNorm, Float32RMSNorm, {}),
    (Float32LayerNorm, Float32LayerNorm, {}),
    (UnitOffsetRMSNorm, UnitOffsetRMSNorm, {}),
    (StableLayerNorm, nn.LayerNorm, {}),
    (StableBiaslessLayerNorm, BiaslessLayerNorm, {}),
    (StableUnitOffsetLayerNorm, UnitOffsetLayerNorm, {}),
    (StableGroupedRMSNorm, GroupedRMSNorm, {"groups": 4}),
]


@pytest.mark.parametrize(("stable", "plain", "sizes"), STABLE, ids=[stable.__name__ for stable, _, _ in STABLE])
def test_weights_in_float32_meet_states_of_16_bits_and_the_result_is_rounded_once(stable, plain, sizes):
    norm, exact = perturb(stable(WIDTH, eps=EPS, **sizes)), plain(WIDTH, eps=EPS, **sizes)
    copy_weights(norm, exact)
    states = torch.randn(3, 5, WIDTH, dtype=torch.bfloat16) * 4 + 1
    found, wanted = norm(states), exact(states.float())
    assert torch.equal(found, wanted.bfloat16())
    assert torch.equal(norm(states.float()), wanted)


def test_a_gate_works_in_the_dtype_of_the_states_and_the_norm_around_it_in_float32():
    norm, exact = perturb(StableGatedRMSNorm(WIDTH, rank=RANK)), GatedRMSNorm(WIDTH, rank=RANK)
    copy_weights(norm, exact)
    states = torch.randn(3, 5, WIDTH)
    torch.testing.assert_close(norm(states), exact(states))
    norm.gate_down_proj.bfloat16(), norm.gate_up_proj.bfloat16()
    found = norm(states.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact(states.bfloat16().float()), rtol=0.03, atol=0.03)


def test_unit_offset_layer_norm_starts_as_the_plain_norm():
    states = torch.randn(3, WIDTH)
    assert torch.equal(UnitOffsetLayerNorm(WIDTH)(states), nn.LayerNorm(WIDTH)(states))


def test_unit_offset_norm_starts_as_the_plain_norm():
    states = torch.randn(3, WIDTH)
    assert torch.equal(UnitOffsetRMSNorm(WIDTH)(states), RMSNorm(WIDTH)(states))


@pytest.mark.parametrize("norm", SHOWN)
def test_norm_shows_its_width_and_eps(norm):
    assert repr(norm(WIDTH, eps=EPS)) == f"{norm.__name__}(({WIDTH},), eps={EPS})"
