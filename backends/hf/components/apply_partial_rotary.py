"""Rotation of the first dims of a head only, as many as the tables are wide."""

import torch

from eulerc.backends.hf.components.apply_rotary import apply_rotary_pos_emb


def apply_partial_rotary_pos_emb(
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates the first dims of queries and keys, as many as the tables are wide, and passes the rest."""
    rotary_dim = cos.shape[-1]
    query_rot, query_pass = query[..., :rotary_dim], query[..., rotary_dim:]
    key_rot, key_pass = key[..., :rotary_dim], key[..., rotary_dim:]
    query_rot, key_rot = apply_rotary_pos_emb(query_rot, key_rot, cos, sin)
    return torch.cat((query_rot, query_pass), dim=-1), torch.cat((key_rot, key_pass), dim=-1)
