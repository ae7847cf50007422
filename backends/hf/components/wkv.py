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
    """`wkv` of whole chunks: a step for each to find the state before it, then one for each place in all of them."""
    key, value = (states.unflatten(1, (-1, chunk_size)).transpose(1, 2) for states in (key, value))
    # (batch, places, chunks, channels): what each chunk but the last adds by its end
    left = torch.arange(chunk_size - 1, -1, -1, device=key.device)
    weights = key[:, :, :-1] + left[:, None, None] * decay
    scale = weights.amax(dim=1)
    weights = torch.exp(weights - scale[:, None])
    added = ((weights * value[:, :, :-1]).sum(dim=1), weights.sum(dim=1), scale)
    before = [state]
    for chunk in range(key.shape[2] - 1):
        state = sum_of((state[0], state[1], state[2] + chunk_size * decay), tuple(part[:, chunk] for part in added))
        before.append(state)

    one = key.new_ones(())
    state = tuple(torch.stack(parts, dim=1) for parts in zip(*before, strict=True))
    seen = []
    for token in zip(value.unbind(dim=1), key.unbind(dim=1), strict=True):
        seen.append(state)
        state = sum_of((state[0], state[1], state[2] + decay), (token[0], one, token[1]))
    numerator, denominator, scale = (torch.stack(parts, dim=1) for parts in zip(*seen, strict=True))
    numerator, denominator, _ = sum_of((numerator, denominator, scale), (value, one, key + bonus))
    output = (numerator / denominator).transpose(1, 2).flatten(1, 2)
    return output, tuple(part[:, -1] for part in state)


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
        sums: tuple[torch.Tensor, ...] = (zeros, zeros, zeros + torch.finfo(key.dtype).min)
    else:
        sums = state.unbind(dim=1)
    outputs = []
    whole = length - length % chunk_size
    for start, end, size in ((0, whole, chunk_size), (whole, length, length - whole)):
        if start < end:
            output, sums = wkv_of_chunks(key[:, start:end], value[:, start:end], decay, bonus, sums, size)
            outputs.append(output)
    return torch.cat(outputs, dim=1), torch.stack(sums, dim=1)
