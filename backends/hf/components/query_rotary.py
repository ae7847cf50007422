"""Rotations of queries alone, where keys come rotated; each as that of `apply_rotary` with the same ending."""

import torch

from eulerc.backends.hf.components.apply_rotary import rotate_half, rotate_neighbours, rotate_pairs


def rotate_queries(query: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates queries (batch, heads, length, rotary width), pairing the halves of their dims."""
    cos = cos.unsqueeze(1)
    sin = sin.unsqueeze(1)
    return (query * cos) + (rotate_half(query) * sin)


def rotate_queries_float32(query: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates queries in float32, pairing the halves of their dims (OLMo 2)."""
    cos = cos.unsqueeze(1)
    sin = sin.unsqueeze(1)
    query_embed = (query.float() * cos) + (rotate_half(query.float()) * sin)
    return query_embed.to(query.dtype)


def rotate_queries_interleaved(query: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates queries, pairing neighbouring dims (GLM)."""
    cos = cos[..., : cos.shape[-1] // 2].unsqueeze(1)
    sin = sin[..., : sin.shape[-1] // 2].unsqueeze(1)
    return rotate_pairs(query, cos, sin)


def rotate_queries_interleaved_float32(query: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates queries in float32, pairing neighbouring dims (Cohere)."""
    cos = cos[..., : cos.shape[-1] // 2].unsqueeze(1)
    sin = sin[..., : sin.shape[-1] // 2].unsqueeze(1)
    return rotate_pairs(query.float(), cos, sin).to(query.dtype)


def rotate_queries_neighbours(query: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates queries, pairing neighbouring dims, by tables with each angle twice in a row (GLM)."""
    cos = cos.unsqueeze(1)
    sin = sin.unsqueeze(1)
    return (query * cos) + (rotate_neighbours(query) * sin)


def rotate_queries_neighbours_float32(query: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates queries in float32, pairing neighbouring dims, by tables with each angle twice in a row (Cohere)."""
    cos = cos.unsqueeze(1)
    sin = sin.unsqueeze(1)
    query_float = query.float()
    query_embed = (query_float * cos) + (rotate_neighbours(query_float) * sin)
    return query_embed.to(query.dtype)


def rotate_queries_partially(query: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates the first dims of queries, as many as the tables are wide, and passes the rest."""
    rotary_dim = cos.shape[-1]
    query_rot, query_pass = query[..., :rotary_dim], query[..., rotary_dim:]
    return torch.cat((rotate_queries(query_rot, cos, sin), query_pass), dim=-1)
