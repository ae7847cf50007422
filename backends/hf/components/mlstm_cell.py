"""The recurrence of mLSTM: a memory of outer products whose gates are exponential, kept small by their maximum."""

import torch
from torch import nn


def mlstm_step(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    input_gate: torch.Tensor,
    log_forget: torch.Tensor,
    states: tuple[torch.Tensor, ...],
    eps: float,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """One token (Beck et al. 2024, eqs. 19 to 27); shapes are those of `mlstm_chunkwise`, the length is 1."""
    memory, normaliser, stabiliser = states
    largest = torch.maximum(log_forget[..., 0] + stabiliser, input_gate[..., 0])
    kept = (log_forget[..., 0] + stabiliser - largest).exp()[..., None, None]
    key = key * (input_gate[..., 0] - largest).exp()[..., None, None]
    memory = kept * memory + key.transpose(-1, -2) @ value
    normaliser = kept[..., 0] * normaliser + key[..., 0, :]
    scale = torch.maximum((query @ normaliser[..., None]).abs(), (-largest).exp()[..., None, None])
    return query @ memory / (scale + eps), (memory, normaliser, largest)


def mlstm_chunkwise(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    input_gate: torch.Tensor,
    log_forget: torch.Tensor,
    states: tuple[torch.Tensor, ...] | None,
    eps: float,
    chunk_size: int,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """The same recurrence over a sequence, chunk by chunk: all pairs within, states between.

    `query`, scaled, and `key` are (batch, heads, length, key_dim), `value` (batch, heads, length, value_dim), and
    both gates (batch, heads, length): the input's logarithm, and that of the forget gate. States are memory,
    (batch, heads, key_dim, value_dim), normaliser, (batch, heads, key_dim), and the logarithm that both have been
    divided by, (batch, heads). Gives the output, as `value`, and the last states, all in float32.
    """
    seq_len = query.shape[2]
    chunk_size = min(chunk_size, seq_len)
    padding = -seq_len % chunk_size
    query, key, value = (
        nn.functional.pad(inputs, (0, 0, 0, padding)).unflatten(2, (-1, chunk_size)) for inputs in (query, key, value)
    )
    input_gate = nn.functional.pad(input_gate, (0, padding), value=-torch.inf).unflatten(2, (-1, chunk_size))
    decay = nn.functional.pad(log_forget, (0, padding)).unflatten(2, (-1, chunk_size)).cumsum(dim=-1)
    if states is None:
        memory = query.new_zeros(*query.shape[:2], query.shape[-1], value.shape[-1])
        states = (memory, memory[..., 0], memory[..., 0, 0])

    # Between chunks: each adds its own pairs to the decayed ones before
    memory, normaliser, stabiliser = states
    total = decay[..., -1]
    to_end = total[..., None] - decay + input_gate
    before = [stabiliser]
    for chunk in range(total.shape[2]):
        stabiliser = torch.maximum(total[:, :, chunk] + stabiliser, to_end[:, :, chunk].amax(dim=-1))
        before.append(stabiliser)
    stabilisers = torch.stack(before, dim=2)
    kept = (total + stabilisers[:, :, :-1] - stabilisers[:, :, 1:]).exp()
    written = key * (to_end - stabilisers[:, :, 1:, None]).exp()[..., None]
    added, added_keys = written.transpose(-1, -2) @ value, written.sum(dim=-2)
    memories, normalisers = [], []
    for chunk in range(total.shape[2]):
        memories.append(memory)
        normalisers.append(normaliser)
        memory = kept[:, :, chunk, None, None] * memory + added[:, :, chunk]
        normaliser = kept[:, :, chunk, None] * normaliser + added_keys[:, :, chunk]

    # Within chunks: what a position reads of those before, relative to the largest of all that it reads
    ahead = torch.ones(chunk_size, chunk_size, dtype=torch.bool, device=query.device).triu(diagonal=1)
    within = (decay[..., :, None] - decay[..., None, :] + input_gate[..., None, :]).masked_fill(ahead, -torch.inf)
    from_before = decay + stabilisers[:, :, :-1, None]
    # Where all that is read is smaller still the output is zero, and 1 over it no number
    largest = torch.maximum(from_before, within.amax(dim=-1)).clamp(min=-80)
    scores = (query @ key.transpose(-1, -2)) * (within - largest[..., None]).exp()
    query = query * (from_before - largest).exp()[..., None]
    read = scores.sum(dim=-1, keepdim=True) + query @ torch.stack(normalisers, dim=2)[..., None]
    output = scores @ value + query @ torch.stack(memories, dim=2)
    output = output / (torch.maximum(read.abs(), (-largest).exp()[..., None]) + eps)
    return output.flatten(2, 3)[:, :, :seq_len], (memory, normaliser, stabiliser)
