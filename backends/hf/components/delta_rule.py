"""The delta rule: a memory of each head is told what it lacks, and fades (Yang et al. 2025, Kimi Team 2025)."""

from typing import Any

import torch
from torch import nn
from transformers.integrations.hub_kernels import use_kernel_func_from_hub_with_fallback


def normalised(states: torch.Tensor, length: float = 1.0) -> torch.Tensor:
    """Vectors of this length, in float32, along the last dimension."""
    states = states.float()
    return states * (torch.rsqrt((states * states).sum(dim=-1, keepdim=True) + 1e-6) * length)


def faded(log_decay: torch.Tensor) -> torch.Tensor:
    """What decays leave; nothing where products of such numbers would be too small to be normal, and slow."""
    return nn.functional.threshold(log_decay, -30.0, -torch.inf).exp()


def in_chunks(states: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """(batch, length, heads, ...) as (chunks, batch, heads, chunk_size, ...) in float32, with zeros at the end."""
    states, padding = states.float(), -states.shape[1] % chunk_size
    if padding:
        states = nn.functional.pad(states, (0, 0) * (states.dim() - 2) + (0, padding))
    return states.unflatten(1, (-1, chunk_size)).transpose(0, 1).transpose(2, 3).contiguous()


def delta_rule_in_chunks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    products: tuple[torch.Tensor, torch.Tensor],
    log_decay: torch.Tensor,
    beta: torch.Tensor,
    state: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What all chunks have to do, and what one leaves to the next (Yang et al. 2024, section 3.2).

    `query` and `key` are (chunks, batch, ..., chunk_size, key_dim), `value` (chunks, batch, ..., chunk_size,
    value_dim), `beta` (chunks, batch, ..., chunk_size), where the dots are the heads; `log_decay` sums up from the
    start of the chunk, (chunks, batch, ..., chunk_size, key_dim or 1). `products` are those of queries and keys, and
    of keys and keys, with what the decays between leave of them; those of a key with itself and later ones are not
    read.
    Gives the output, (batch, chunks * chunk_size, heads, value_dim), and the last state, (batch, heads, key_dim,
    value_dim), of which `state` is one.
    """
    scores, overlaps = products
    batch_size, chunk_size, value_dim = value.shape[1], *value.shape[-2:]
    identity = torch.eye(chunk_size, dtype=value.dtype, device=value.device)
    overlaps = overlaps * beta[..., None]
    inverse = torch.linalg.solve_triangular(overlaps, identity, upper=False, unitriangular=True) * beta[..., None, :]
    from_start = faded(log_decay)
    to_end = faded(log_decay[..., -1:, :] - log_decay)
    kept = from_start[..., -1, :, None]

    states = (query * from_start, key * from_start, key * to_end, kept, value, scores, inverse)
    chunks = [tensor.flatten(1, -3).unbind(0) for tensor in states]
    outputs, (num_states, _, key_dim) = [], chunks[0][0].shape
    state = value.new_zeros(num_states, key_dim, value_dim) if state is None else state.flatten(0, 1)
    for reading, known, written, kept, wanted, scores, inverse in zip(*chunks, strict=True):
        change = inverse @ torch.baddbmm(wanted, known, state, alpha=-1)
        output = torch.baddbmm(reading @ state, scores, change)
        state = torch.baddbmm(state * kept, written.transpose(-1, -2), change)
        outputs.append(output.unflatten(0, (batch_size, -1)).transpose(1, 2))
    return torch.cat(outputs, dim=1), state.unflatten(0, (batch_size, -1))


def delta_rule_step(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    log_decay: torch.Tensor,
    beta: torch.Tensor,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token. `query` and `key` are (batch, heads, key_dim), `value` (batch, heads, value_dim), `beta` (batch,
    heads), `log_decay` (batch, heads, key_dim or 1). Gives the output, (batch, 1, heads, value_dim), and the state.
    """
    batch_size = value.shape[0]
    query, key, value = (states.flatten(0, 1)[:, None] for states in (query, key, value))
    state = (state * log_decay.exp()[..., None]).flatten(0, 1)
    change = torch.baddbmm(value, key, state, alpha=-1) * beta.flatten()[:, None, None]
    state = torch.baddbmm(state, key.transpose(-1, -2), change)
    return (query @ state).view(batch_size, 1, -1, value.shape[-1]), state.unflatten(0, (batch_size, -1))


@use_kernel_func_from_hub_with_fallback("chunk_gated_delta_rule", "fla")
def chunk_gated_delta_rule(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    chunk_size: int = 32,
    initial_state: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gated delta rule (eq. 10) for normalised queries and keys, chunk by chunk.

    `query` and `key` are (batch, length, heads, key_dim), `value` (batch, length, value_heads, value_dim), `g`, the
    logarithm of the decay, and `beta` (batch, length, value_heads). Gives the output, as `value`, and the last state,
    (batch, value_heads, key_dim, value_dim).
    """
    dtype, (seq_len, num_heads, head_dim) = query.dtype, query.shape[1:]
    query = in_chunks(normalised(query, head_dim**-0.5), chunk_size)[:, :, :, None]
    key = in_chunks(normalised(key), chunk_size)[:, :, :, None]
    value, log_decay, beta = (
        in_chunks(states, chunk_size).unflatten(2, (num_heads, -1)) for states in (value, g, beta)
    )
    log_decay = log_decay.cumsum(dim=-1)

    ahead = torch.ones(chunk_size, chunk_size, dtype=torch.bool, device=value.device).triu(diagonal=1)
    between = faded((log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(ahead, -torch.inf))
    keys = key.transpose(-1, -2)
    output, state = delta_rule_in_chunks(
        query,
        key,
        value,
        ((query @ keys) * between, (key @ keys) * between),
        log_decay[..., None],
        beta,
        None if initial_state is None else initial_state.float(),
    )
    return output[:, :seq_len].to(dtype), state


@use_kernel_func_from_hub_with_fallback("fused_recurrent_gated_delta_rule", "fla")
def recurrent_gated_delta_rule(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    initial_state: torch.Tensor,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token of the same: all lengths are 1."""
    shared = value.shape[2] // query.shape[2]
    output, state = delta_rule_step(
        normalised(query[:, 0], query.shape[-1] ** -0.5).repeat_interleave(shared, dim=1),
        normalised(key[:, 0]).repeat_interleave(shared, dim=1),
        value[:, 0].float(),
        g[:, 0, :, None],
        beta[:, 0].float(),
        initial_state.float(),
    )
    return output.to(value.dtype), state


def decayed_products(
    query: torch.Tensor, key: torch.Tensor, log_decay: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Products of queries and of keys with keys up to them, each channel decayed by what lies between.

    All are (..., chunk_size, key_dim), `log_decay` summed up from the start. The second half of a stretch meets the
    first at the border between them, so that no exponent is positive; each half is such a stretch, down to one token.
    """
    rows = torch.stack((query, key), dim=-3)
    products = (rows * key[..., None, :, :]).sum(dim=-1)[..., None, None]
    size = 1
    while size < key.shape[-2]:
        before, after = log_decay.unflatten(-2, (-1, 2, size)).unbind(-3)
        border = before[..., -1:, :]
        columns = key.unflatten(-2, (-1, 2, size))[..., 0, :, :] * faded(border - before)
        reading = rows.unflatten(-2, (-1, 2, size))[..., 1, :, :] * faded(after - border)[..., None, :, :, :]
        below = reading @ columns.transpose(-1, -2)[..., None, :, :, :]
        first, second = products.unflatten(-3, (-1, 2)).unbind(-3)
        products = torch.cat((nn.functional.pad(first, (0, size)), torch.cat((below, second), dim=-1)), dim=-2)
        size *= 2
    scores, overlaps = products.squeeze(-3).unbind(-3)
    return scores, overlaps


@use_kernel_func_from_hub_with_fallback("chunk_kda", "fla")
def chunk_kda(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    chunk_size: int = 32,
    initial_state: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Kimi delta attention (eq. 1) for normalised queries and keys, chunk by chunk; `chunk_size` is a power of two.

    `query`, `key` and `g`, the logarithm of the decay, are (batch, length, heads, key_dim), `value` (batch, length,
    heads, value_dim), `beta` (batch, length, heads). Gives the output, as `value`, and the last state, (batch, heads,
    key_dim, value_dim).
    """
    dtype, seq_len = query.dtype, query.shape[1]
    query = in_chunks(normalised(query, query.shape[-1] ** -0.5), chunk_size)
    key = in_chunks(normalised(key), chunk_size)
    value, log_decay, beta = (in_chunks(states, chunk_size) for states in (value, g, beta))
    log_decay = log_decay.cumsum(dim=-2)
    products = decayed_products(query, key, log_decay)
    state = None if initial_state is None else initial_state.float()
    output, state = delta_rule_in_chunks(query, key, value, products, log_decay, beta, state)
    return output[:, :seq_len].to(dtype), state


@use_kernel_func_from_hub_with_fallback("fused_recurrent_kda", "fla")
def recurrent_kda(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    initial_state: torch.Tensor,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token of the same: all lengths are 1."""
    output, state = delta_rule_step(
        normalised(query[:, 0], query.shape[-1] ** -0.5),
        normalised(key[:, 0]),
        value[:, 0].float(),
        g[:, 0],
        beta[:, 0].float(),
        initial_state.float(),
    )
    return output.to(value.dtype), state


def delta_recurrence(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
) -> torch.Tensor:
    """The recurrence as it is written (eq. 1), token by token and head by head: what the other forms are held to.

    S = (I - b k k^T) Diag(a) S + b k v^T and o = S^T q, where a is one number for gated delta networks; q and k are of
    length 1, but for the 1e-6 that keeps them from being divided by zero.
    """
    batch_size, seq_len, num_heads, head_dim = key.shape
    outputs = value.new_zeros(value.shape)
    for row in range(batch_size):
        for head in range(value.shape[2]):
            shared = head * num_heads // value.shape[2]
            state = value.new_zeros(head_dim, value.shape[-1])
            for token in range(seq_len):
                q, k = (states[row, token, shared] for states in (query, key))
                q, k = q / (q @ q + 1e-6).sqrt(), k / (k @ k + 1e-6).sqrt()
                b, decay = beta[row, token, head], g[row, token, head].exp().expand(head_dim)
                lost = torch.eye(head_dim, dtype=k.dtype) - b * torch.outer(k, k)
                state = lost @ torch.diag(decay) @ state + b * torch.outer(k, value[row, token, head])
                outputs[row, token, head] = state.T @ q * head_dim**-0.5
    return outputs
