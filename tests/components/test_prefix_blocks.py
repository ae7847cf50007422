"""Where a prefix stands in a row, and which tokens lie ahead in one sequence."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicCache

from eulerc.backends.hf.components.is_ahead import is_ahead
from eulerc.backends.hf.components.prefix_blocks import prefix_blocks

TYPES = torch.tensor([[1, 1, 0, 0, 1, 0], [0, 1, 1, 1, 0, 0]])
PLAIN = torch.arange(6)[None]
PACKED = torch.tensor([[0, 1, 2, 3, 0, 1]])


def filled() -> DynamicCache:
    cache = DynamicCache()
    cache.update(torch.zeros(2, 1, 3, 4), torch.zeros(2, 1, 3, 4), 0)
    return cache


def test_tokens_of_type_1_are_a_block():
    assert prefix_blocks(TYPES, PLAIN, None).tolist() == [[1, 1, -1, -1, 1, -1], [-1, 1, 1, 1, -1, -1]]
    assert prefix_blocks(TYPES, PLAIN, DynamicCache()) is not None


def test_packed_sequences_have_blocks_of_their_own():
    assert prefix_blocks(TYPES[:1], PACKED, None).tolist() == [[1, 1, -1, -1, 2, -1]]


def test_there_is_none_without_types_or_behind_a_prefix():
    assert prefix_blocks(None, PLAIN, None) is None
    assert prefix_blocks(torch.zeros_like(TYPES), PLAIN, filled()) is None


def test_a_prefix_does_not_go_on_behind_cached_tokens():
    with pytest.raises(ValueError, match="behind cached tokens"):
        prefix_blocks(TYPES, PLAIN, filled())


@pytest.mark.parametrize(
    ("positions", "distance", "wanted"),
    [
        (PLAIN, 1, [True, True, True, True, True, False]),
        (PLAIN, 4, [True, True, False, False, False, False]),
        (PACKED, 1, [True, True, True, False, True, False]),
        (PACKED, 3, [True, False, False, False, False, False]),
    ],
)
def test_tokens_ahead_are_of_the_same_sequence(positions, distance, wanted):
    assert is_ahead(positions, distance).tolist() == [wanted]
