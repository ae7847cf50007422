"""Attention by experts beside other routers, and biases of layers that differ in their heads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from builds import model, tokens

EXPERTS = [5, 5, 4, 4, 4, 5, 5, 4]
"""Experts of every router whose logits are recorded, in order: those of attention twice."""
TOP_K = [2, 2, 3, 4, 4, 2, 2, 3]


def balance(logits: torch.Tensor, top_k: int) -> torch.Tensor:
    """Experts times the sum of each one's share of choices and mean probability (Fedus et al. 2021, eq. 4)."""
    probabilities = logits.softmax(dim=-1)
    chosen = torch.zeros_like(probabilities).scatter(1, probabilities.topk(top_k, dim=-1).indices, 1.0)
    return logits.shape[-1] * (chosen.mean(dim=0) * probabilities.mean(dim=0)).sum()


@torch.no_grad()
def test_the_logits_of_attention_count_twice_where_a_spec_says_so() -> None:
    output = model("mixture_attention")(tokens(2, 9), output_router_logits=True, use_cache=False)
    assert [logits.shape[-1] for logits in output.router_logits] == EXPERTS
    assert torch.equal(output.router_logits[0], output.router_logits[1])
    losses = [balance(logits, top_k) for logits, top_k in zip(output.router_logits, TOP_K, strict=True)]
    torch.testing.assert_close(output.aux_loss, torch.stack(losses).mean())


@pytest.mark.parametrize(("layer", "heads", "width"), [(0, 4, 16), (1, 6, 24)])
@torch.no_grad()
def test_biases_are_those_of_the_heads_of_a_layer(layer: int, heads: int, width: int) -> None:
    base = model("mixture_alibi").model
    biases = base.with_position_biases(None, base.embed_tokens(tokens(1, 7)), None, layer_idx=layer)
    assert biases.shape == (1, heads, 7, 7)
    # Slopes fall to 2^-5 over 4 heads, or over the even ones of 8 and then the odd ones
    exponents = [1, 2, 3, 4] if heads == 4 else [1, 2, 3, 4, 0.5, 1.5]
    slopes = torch.tensor([2.0 ** (-5 * exponent / 4) for exponent in exponents])
    torch.testing.assert_close(biases[0, :, -1, 0], -6 * slopes * width**-0.5)
