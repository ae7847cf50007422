"""The delta rule: a memory of each head is told what it lacks, and fades (Yang et al. 2025, Kimi Team 2025)."""

from typing import Any

import torch
from torch import nn
from transformers.integrations.hub_kernels import use_kernel_func_from_hub_with_fallback


def normalised(states: torch.Tensor) -> torch.Tensor:
    """Vectors of length 1, in float32, along the last dimension."""
    states = states.float()
    return states * torch.rsqrt((states * states).sum(dim=-1, keepdim=True) + 1e-6)


def faded(log_decay: torch.Tensor) -> torch.Tensor:
    """What decays leave; nothing where it were so little that numbers would lose their precision, and slow down."""
    return nn.functional.threshold(log_decay, -60.0, -torch.inf).exp()


def in_chunks(states: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """(batch, length, heads, ...) as (batch, chunks, heads, chunk_size, ...) in float32, with zeros at the end."""
    padding = -states.shape[1] % chunk_size
    states = nn.functional.pad(states.float(), (0, 0) * (states.dim() - 2) + (0, padding))
    return states.unflatten(1, (-1, chunk_size)).transpose(2, 3).contiguous()


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

    `query` and `key` are (batch, chunks, ..., chunk_size, key_dim), `value` (batch, chunks, ..., chunk_size,
    value_dim), `beta` (batch, chunks, ..., chunk_size); `log_decay` sums up from the start of the chunk,
    (batch, chunks, ..., chunk_size, key_dim or 1). `products` are those of queries and keys, and of keys and keys,
    with what the decays between leave of them; only those with earlier tokens are read of the latter.
    """
    scores, overlaps = products
    chunk_size = value.shape[-2]
    identity = torch.eye(chunk_size, dtype=value.dtype, device=value.device)
    overlaps = overlaps * beta[..., None]
    inverse = torch.linalg.solve_triangular(overlaps, identity, upper=False, unitriangular=True) * beta[..., None, :]
    from_start = faded(log_decay)
    wanted, known = inverse @ value, inverse @ (key * from_start)
    written = key * faded(log_decay[..., -1:, :] - log_decay)
    kept = from_start[..., -1, :, None]

    if state is None:
        state = value.new_zeros(*value[:, 0].shape[:-2], key.shape[-1], value.shape[-1])
    states, changes = [], []
    for wanted_here, known_here, written_here, kept_here in zip(
        *(tensor.unbind(1) for tensor in (wanted, known, written, kept)), strict=True
    ):
        states.append(state)
        changes.append(wanted_here - known_here @ state)
        state = state * kept_here + written_here.transpose(-1, -2) @ changes[-1]
    output = (query * from_start) @ torch.stack(states, dim=1) + scores @ torch.stack(changes, dim=1)
    return output, state


def delta_rule_step(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    log_decay: torch.Tensor,
    beta: torch.Tensor,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token. `query` and `key` are (batch, heads, key_dim), `value` (batch, heads, value_dim), `beta` (batch,
    heads), `log_decay` (batch, heads, key_dim or 1).
    """
    state = state * log_decay.exp()[..., None]
    change = (value - (key[..., None, :] @ state).squeeze(-2)) * beta[..., None]
    state = state + key[..., :, None] * change[..., None, :]
    return (query[..., None, :] @ state).squeeze(-2), state


@use_kernel_func_from_hub_with_fallback("chunk_gated_delta_rule", "fla")
def chunk_gated_delta_rule(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    chunk_size: int = 64,
    initial_state: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gated delta rule (eq. 10) for normalised queries and keys, chunk by chunk.

    `query` and `key` are (batch, length, heads, key_dim), `value` (batch, length, value_heads, value_dim), `g`, the
    logarithm of the decay, and `beta` (batch, length, value_heads). Gives the output, as `value`, and the last state,
    (batch, value_heads, key_dim, value_dim).
    """
    dtype, (seq_len, num_heads, head_dim) = query.dtype, query.shape[1:]
    query = in_chunks(normalised(query) * head_dim**-0.5, chunk_size)[:, :, :, None]
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
        None if initial_state is None else initial_state.float().unflatten(1, (num_heads, -1)),
    )
    output = output.flatten(2, 3).transpose(2, 3).flatten(1, 2)[:, :seq_len]
    return output.to(dtype), state.flatten(1, 2)


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
    query, key = (normalised(states[:, 0]).repeat_interleave(shared, dim=1) for states in (query, key))
    output, state = delta_rule_step(
        query * query.shape[-1] ** -0.5,
        key,
        value[:, 0].float(),
        g[:, 0, :, None],
        beta[:, 0].float(),
        initial_state.float(),
    )
    return output[:, None].to(value.dtype), state


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
    chunk_size: int = 64,
    initial_state: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Kimi delta attention (eq. 1) for normalised queries and keys, chunk by chunk; `chunk_size` is a power of two.

    `query`, `key` and `g`, the logarithm of the decay, are (batch, length, heads, key_dim), `value` (batch, length,
    heads, value_dim), `beta` (batch, length, heads). Gives the output, as `value`, and the last state, (batch, heads,
    key_dim, value_dim).
    """
    dtype, seq_len = query.dtype, query.shape[1]
    query = in_chunks(normalised(query) * query.shape[-1] ** -0.5, chunk_size)
    key = in_chunks(normalised(key), chunk_size)
    value, log_decay, beta = (in_chunks(states, chunk_size) for states in (value, g, beta))
    log_decay = log_decay.cumsum(dim=-2)
    products = decayed_products(query, key, log_decay)
    state = None if initial_state is None else initial_state.float()
    output, state = delta_rule_in_chunks(query, key, value, products, log_decay, beta, state)
    return output.transpose(2, 3).flatten(1, 2)[:, :seq_len].to(dtype), state


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
        normalised(query[:, 0]) * query.shape[-1] ** -0.5,
        normalised(key[:, 0]),
        value[:, 0].float(),
        g[:, 0],
        beta[:, 0].float(),
        initial_state.float(),
    )
    return output[:, None].to(value.dtype), state


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
