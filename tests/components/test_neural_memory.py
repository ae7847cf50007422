"""Neural memory against the paper's equations, written out token by token with gradients by autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.cache_utils import Cache, LinearAttentionLayer

from eulerc.backends.hf.components.neural_memory import NeuralMemory
from tests.components.harness import component_config, hidden_states, perturb

CHUNK = 4
LENGTH = 19


def network(weights: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """M(x): a matrix, SiLU, a matrix."""
    first, second = weights
    return second.T @ nn.functional.silu(first @ inputs)


def token_by_token(memory: NeuralMemory, states: torch.Tensor) -> torch.Tensor:
    """Titans (Behrouz et al. 2025) for one sequence (length, width), without chunks of tensors.

    k, v, q = SiLU(x W) with k and q normed (eq. 11 and section 4.4); the loss |M(k) - v|^2 (eq. 12), whose gradient is
    taken at the memory as of the last chunk (eq. 16); S[t] = eta S[t-1] - theta grad (eq. 14); M[t] = (1 - alpha)
    M[t-1] + S[t] (eq. 13); y = M*(q) (eq. 15), M being that of the last chunk.
    """
    normalize, silu = nn.functional.normalize, nn.functional.silu
    weights = [part.detach().clone() for part in memory.initial_weights]
    surprise = [torch.zeros_like(part) for part in weights]
    seen = [part.clone() for part in weights]
    outputs = []
    for number, token in enumerate(states):
        if number % CHUNK == 0:
            seen = [part.clone().requires_grad_() for part in weights]
        key, query = (normalize(silu(proj(token)), dim=-1) for proj in (memory.k_proj, memory.q_proj))
        value = silu(memory.v_proj(token))
        outputs.append(memory.o_proj(network((seen[0], seen[1]), query)))
        alpha, eta = memory.forget_proj(token).sigmoid(), memory.momentum_proj(token).sigmoid()
        theta = memory.inner_lr * memory.step_proj(token).sigmoid()
        loss = (network((seen[0], seen[1]), key) - value).square().sum()
        gradients = torch.autograd.grad(loss, seen)
        surprise = [eta * part - theta * grad for part, grad in zip(surprise, gradients, strict=True)]
        weights = [(1 - alpha) * part + more for part, more in zip(weights, surprise, strict=True)]
        weights, surprise = ([part.detach() for part in parts] for parts in (weights, surprise))
    return torch.stack(outputs)


def made(**decided: Any) -> NeuralMemory:
    config = component_config(update_at_inference=True, memory_chunk_size=CHUNK, memory_inner_lr=0.3, **decided)
    memory = NeuralMemory(config, layer_idx=0)
    perturb(memory)
    return memory


def cache() -> Cache:
    return Cache(layers=[LinearAttentionLayer(number_of_states=8)])


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 9, LENGTH])
def test_chunks_equal_the_equations_token_by_token(length: int) -> None:
    memory = made()
    states = hidden_states(memory.config, length=length)
    wanted = torch.stack([token_by_token(memory, row) for row in states])
    torch.testing.assert_close(memory(states, None), wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("pieces", [[1] * LENGTH, [5, 1, 1, 8, 4], [4, 4, 11], [2, 3, 14]])
def test_pieces_with_a_cache_equal_the_whole(pieces: list[int]) -> None:
    memory, kept = made(first_memory_state=2), cache()
    states = hidden_states(memory.config, length=LENGTH)
    found = [memory(piece, None, kept) for piece in states.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(found, dim=1), memory(states, None), rtol=1e-5, atol=2e-6)
    assert [index for index, state in kept.layers[0].recurrent_states.items() if state is not None] == [2, 3, 4, 5]


@pytest.mark.parametrize("pieces", [[LENGTH], [7, 12], [3, 5, 11]])
def test_padding_is_no_part_of_a_chunk(pieces: list[int]) -> None:
    memory, kept = made(), cache()
    states = hidden_states(memory.config, length=LENGTH)
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[0, :6] = 0
    mask[1, 9:11] = 0
    parts = zip(states.split(pieces, dim=1), mask.split(pieces, dim=1), strict=True)
    found = torch.cat([memory(piece, own, kept) for piece, own in parts], dim=1)
    for row in range(2):
        real = mask[row].bool()
        torch.testing.assert_close(found[row, real], memory(states[row : row + 1, real], None)[0], rtol=1e-5, atol=2e-6)


def test_gradients_are_those_of_the_recurrence() -> None:
    """The learned rates and the initial memory learn through what the memory learns."""
    memory = made().double()
    states = hidden_states(memory.config, length=LENGTH).double()
    (memory(states, None)[:, CHUNK:] ** 2).sum().backward()
    for name, parameter in memory.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_memory_that_learns_in_training_alone_is_a_network_in_evaluation() -> None:
    learning = made()
    frozen = NeuralMemory(component_config(memory_chunk_size=CHUNK, memory_inner_lr=0.3), layer_idx=0)
    frozen.load_state_dict(learning.state_dict())
    states = hidden_states(frozen.config, length=LENGTH)
    assert torch.equal(frozen.train()(states, None), learning(states, None))
    output = frozen.eval()(states, None)
    torch.testing.assert_close(output[:, :CHUNK], learning(states, None)[:, :CHUNK])
    torch.testing.assert_close(output[:, -1:], frozen(states[:, -1:], None))
