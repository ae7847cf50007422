"""Rotations of queries and keys by their positions (Su et al. 2021, eq. 34).

All take queries and keys of shape (batch, heads, length, rotary width) and tables of shape (batch, length, rotary
width). `interleaved` and `neighbours` pair (0, 1), (2, 3), ...; the others pair the halves. The two halves of a table
are equal, but for `neighbours`, whose tables hold the angle of a pair twice in a row.
"""

import torch


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    """Rotates half the hidden dims of the input."""
    x1 = x[..., : x.shape[-1] // 2]
    x2 = x[..., x.shape[-1] // 2 :]
    return torch.cat((-x2, x1), dim=-1)


def apply_rotary_pos_emb(
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates queries and keys, pairing the first half of their dims with the second."""
    cos = cos.unsqueeze(1)
    sin = sin.unsqueeze(1)
    query_embed = (query * cos) + (rotate_half(query) * sin)
    key_embed = (key * cos) + (rotate_half(key) * sin)
    return query_embed, key_embed


def apply_rotary_pos_emb_float32(
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates queries and keys in float32, pairing the halves of their dims (OLMo 2)."""
    cos = cos.unsqueeze(1)
    sin = sin.unsqueeze(1)
    query_embed = (query.float() * cos) + (rotate_half(query.float()) * sin)
    key_embed = (key.float() * cos) + (rotate_half(key.float()) * sin)
    return query_embed.to(query.dtype), key_embed.to(key.dtype)


def rotate_pairs(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates neighbouring dims; `cos` and `sin` hold one angle per pair."""
    x1, x2 = x[..., 0::2], x[..., 1::2]
    return torch.stack((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1).flatten(-2)


def apply_rotary_pos_emb_interleaved(
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates queries and keys, pairing neighbouring dims (GLM)."""
    cos = cos[..., : cos.shape[-1] // 2].unsqueeze(1)
    sin = sin[..., : sin.shape[-1] // 2].unsqueeze(1)
    return rotate_pairs(query, cos, sin), rotate_pairs(key, cos, sin)


def apply_rotary_pos_emb_interleaved_float32(
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates queries and keys in float32, pairing neighbouring dims (Cohere)."""
    cos = cos[..., : cos.shape[-1] // 2].unsqueeze(1)
    sin = sin[..., : sin.shape[-1] // 2].unsqueeze(1)
    query_embed = rotate_pairs(query.float(), cos, sin)
    key_embed = rotate_pairs(key.float(), cos, sin)
    return query_embed.to(query.dtype), key_embed.to(key.dtype)


def rotate_neighbours(x: torch.Tensor) -> torch.Tensor:
    """Turns every pair of neighbouring dims by a quarter."""
    return torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)


def apply_rotary_pos_emb_neighbours(
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates queries and keys, pairing neighbouring dims (GLM)."""
    cos = cos.unsqueeze(1)
    sin = sin.unsqueeze(1)
    query_embed = (query * cos) + (rotate_neighbours(query) * sin)
    key_embed = (key * cos) + (rotate_neighbours(key) * sin)
    return query_embed, key_embed


def apply_rotary_pos_emb_neighbours_float32(
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates queries and keys in float32, pairing neighbouring dims (Cohere)."""
    cos = cos.unsqueeze(1)
    sin = sin.unsqueeze(1)
    query_float, key_float = query.float(), key.float()
    query_embed = (query_float * cos) + (rotate_neighbours(query_float) * sin)
    key_embed = (key_float * cos) + (rotate_neighbours(key_float) * sin)
    return query_embed.to(query.dtype), key_embed.to(key.dtype)


def apply_rotary_pos_emb_deinterleaved(
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates neighbouring dims and leaves them as two halves, which no score can tell apart (DeepSeek-V3)."""
    cos = cos[..., : cos.shape[-1] // 2].unsqueeze(1)
    sin = sin[..., : sin.shape[-1] // 2].unsqueeze(1)
    query1, query2 = query[..., 0::2], query[..., 1::2]
    key1, key2 = key[..., 0::2], key[..., 1::2]
    query_embed = torch.cat((query1 * cos - query2 * sin, query2 * cos + query1 * sin), dim=-1)
    key_embed = torch.cat((key1 * cos - key2 * sin, key2 * cos + key1 * sin), dim=-1)
    return query_embed, key_embed
