"""ALiBi's slopes equal the library's; its masks penalise distance only."""

from __future__ import annotations

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from eulerc.backends.hf.components.alibi import add_alibi, add_symmetric_alibi, alibi_slopes

LENGTH, HEADS = 5, 3
INDEX = torch.arange(LENGTH)
CAUSAL = (INDEX[None, :] <= INDEX[:, None]).expand(2, 1, LENGTH, LENGTH).clone()
MIN = torch.finfo(torch.float32).min


def additive(mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, 0.0, MIN)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 7, 8, 12, 16, 20, 31, 32, 40, 64, 71])
def test_slopes_equal_the_library(heads):
    # The library's bias of the second of two keys is its slope
    slopes = build_alibi_tensor(torch.ones(1, 2, dtype=torch.long), heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(alibi_slopes(heads), slopes, rtol=2e-6, atol=0)


@pytest.mark.parametrize("mask", [None, CAUSAL, additive(CAUSAL)], ids=["none", "boolean", "additive"])
def test_bias_is_minus_slope_times_distance(mask):
    slopes = alibi_slopes(HEADS)
    biased = add_alibi(mask, slopes, INDEX, INDEX, torch.float32)
    assert biased.shape[1:] == (HEADS, LENGTH, LENGTH)
    for head in range(HEADS):
        for query in range(LENGTH):
            for key in range(LENGTH):
                if key <= query:
                    assert biased[-1, head, query, key].item() == pytest.approx(slopes[head].item() * (key - query))
                else:
                    assert biased[-1, head, query, key] <= MIN / 2


def test_decoding_sees_the_last_row_of_the_whole_mask():
    slopes = alibi_slopes(HEADS)
    whole = add_alibi(CAUSAL, slopes, INDEX, INDEX, torch.float32)
    assert torch.equal(add_alibi(None, slopes, INDEX[-1:], INDEX, torch.float32), whole[:1, :, -1:])


def test_left_padding_changes_no_attention():
    slopes = alibi_slopes(HEADS)
    padded = CAUSAL.clone()
    padded[:, :, :, :2] = False
    scores = torch.randn(1, HEADS, LENGTH, LENGTH)
    weights = (scores + add_alibi(padded, slopes, INDEX, INDEX, torch.float32)).softmax(-1)[:1, :, 2:, 2:]
    alone = (scores[..., 2:, 2:] + add_alibi(None, slopes, INDEX[2:] - 2, INDEX[2:] - 2, torch.float32)).softmax(-1)
    torch.testing.assert_close(weights, alone)


def test_mask_has_the_dtype_asked_for():
    assert add_alibi(CAUSAL, alibi_slopes(HEADS), INDEX, INDEX, torch.bfloat16).dtype == torch.bfloat16


def test_keys_ahead_count_like_keys_behind():
    slopes = alibi_slopes(HEADS)
    whole = torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool)
    biased = add_symmetric_alibi(whole, slopes, INDEX, INDEX, torch.float32)
    distance = (INDEX[None] - INDEX[:, None]).abs()
    torch.testing.assert_close(biased[0], -slopes[:, None, None] * distance)
    assert torch.equal(
        add_symmetric_alibi(None, slopes, INDEX, INDEX, torch.float32),
        add_alibi(None, slopes, INDEX, INDEX, torch.float32),
    )
    masked = torch.zeros(1, 1, LENGTH, LENGTH)
    assert torch.equal(add_symmetric_alibi(masked, slopes, INDEX, INDEX, torch.float32), biased)
