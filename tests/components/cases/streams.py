"""Hyper-connections."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedConfig

from tests.components.cases.building import Case
from tests.components.harness import BATCH, LENGTH

SIZES = {"hc_mult": 3, "hc_sinkhorn_iters": 3, "hc_rank": 2, "hc_eps": 1e-5, "hc_norm_eps": 1e-6}


def streams(config: PreTrainedConfig) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    return {"streams": torch.randn(BATCH, LENGTH, config.hc_mult, config.hidden_size, generator=generator)}


CASES = (
    Case(
        "hyper_connection",
        "ConstrainedHyperConnection",
        streams,
        config=lambda facts: dict(SIZES),
        differing={"hc_sinkhorn_iters": 5},
    ),
    Case(
        "hyper_connection",
        "HyperConnection",
        streams,
        arguments=lambda facts: {"layer_idx": 1, "place": 3},
        config=lambda facts: dict(SIZES),
    ),
    Case(
        "hyper_connection",
        "LowRankHyperConnection",
        streams,
        arguments=lambda facts: {"layer_idx": 1, "place": 3},
        config=lambda facts: dict(SIZES),
        differing={"hc_rank": 1},
    ),
    Case(
        "hyper_connection",
        "HyperHead",
        streams,
        arguments=lambda facts: {},
        config=lambda facts: dict(SIZES),
    ),
)
