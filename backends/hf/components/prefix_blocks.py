"""The prefix of a prefix language model (Raffel et al. 2020, section 3.2.1)."""

import torch
from transformers.cache_utils import Cache


def prefix_blocks(
    token_type_ids: torch.Tensor | None,
    position_ids: torch.Tensor,
    past_key_values: Cache | None,
) -> torch.Tensor | None:
    """The prefix as a block whose tokens see each other, (batch, length): its number, and -1 for other tokens.

    A prefix holds the tokens of type 1. Sequences that are packed into one row have prefixes of their own. None where
    the cache has the prefix already; raises ValueError where a prefix would begin or go on behind cached tokens.
    """
    if token_type_ids is None:
        return None
    is_prefix = token_type_ids == 1
    if past_key_values is not None and past_key_values.get_seq_length() > 0:
        if is_prefix.any():
            raise ValueError("A prefix sees the whole of itself: it cannot begin or go on behind cached tokens")
        return None
    sequences = (position_ids == 0).cumsum(dim=-1)
    return torch.where(is_prefix, sequences, -1)
