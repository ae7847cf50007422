"""WKV: a mean of the values so far, weighted by exponentials of their keys that decay channel by channel (RWKV-4).

Sums are triples (numerator, denominator, scale): both have been divided by the exponential of the last.
"""

import torch


def sum_of(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The sum of two sums, divided by the larger of their scales."""
    scale = torch.maximum(one[2], other[2])
    weight, other_weight = torch.exp(one[2] - scale), torch.exp(other[2] - scale)
    numerator = weight * one[0] + other_weight * other[0]
    return numerator, weight * one[1] + other_weight * other[1], scale


def wkv_of_chunks(
    key: torch.Tensor,
    value: torch.Tensor,
    decay: torch.Tensor,
    bonus: torch.Tensor,
    state: tuple[torch.Tensor, ...],
    chunk_size: int,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """`wkv` of whole chunks, which advance together: a step for each place in them, then one for each chunk."""
    key, value = (states.unflatten(1, (-1, chunk_size)) for states in (key, value))
    ones, zeros = torch.ones_like(key), torch.zeros_like(key[:, :, 0])
    total: tuple[torch.Tensor, ...] = (zeros, zeros, zeros - 1e38)
    within = []
    for place in range(chunk_size):
        within.append(total)
        token = (value[:, :, place], ones[:, :, place], key[:, :, place])
        total = sum_of((total[0], total[1], total[2] + decay), token)
    before = []
    for chunk in range(key.shape[1]):
        before.append(state)
        state = sum_of((state[0], state[1], state[2] + chunk_size * decay), tuple(part[:, chunk] for part in total))
    numerator, denominator, scale = (torch.stack(parts, dim=1)[:, :, None] for parts in zip(*before, strict=True))
    scale = scale + torch.arange(chunk_size, device=key.device)[:, None] * decay
    seen = sum_of(
        (numerator, denominator, scale), tuple(torch.stack(parts, dim=2) for parts in zip(*within, strict=True))
    )
    numerator, denominator, _ = sum_of(seen, (value, ones, key + bonus))
    return (numerator / denominator).flatten(1, 2), state


def wkv(
    key: torch.Tensor,
    value: torch.Tensor,
    decay: torch.Tensor,
    bonus: torch.Tensor,
    state: torch.Tensor | None,
    chunk_size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Peng et al. 2023, eq. 16, with the logarithms of appendix D, chunk by chunk and in float32.

    `key` and `value` are (batch, length, channels), `decay` a token's, negative, and `bonus` the newest token's
    logarithm, both (channels,). Gives the output, as `value`, and the last state, (batch, 3, channels).
    """
    length = key.shape[1]
    if state is None:
        zeros = torch.zeros_like(key[:, 0])
        sums: tuple[torch.Tensor, ...] = (zeros, zeros, zeros - 1e38)
    else:
        sums = state.unbind(dim=1)
    outputs = []
    whole = length - length % chunk_size
    for start, end, size in ((0, whole, chunk_size), (whole, length, length - whole)):
        if start < end:
            output, sums = wkv_of_chunks(key[:, start:end], value[:, start:end], decay, bonus, sums, size)
            outputs.append(output)
    return torch.cat(outputs, dim=1), torch.stack(sums, dim=1)
