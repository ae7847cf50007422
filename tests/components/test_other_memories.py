"""Associative and retrieval memories against what they are, written out token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.cache_utils import Cache, LinearAttentionLayer

from eulerc.backends.hf.components.associative_memory import AssociativeMemory
from eulerc.backends.hf.components.retrieval_memory import RetrievalMemory
from tests.components.harness import component_config, hidden_states, perturb

LENGTH = 19
Memory = AssociativeMemory | RetrievalMemory


def associated(memory: AssociativeMemory, states: torch.Tensor) -> torch.Tensor:
    """Fast weights of one sequence (length, width): A = keep A + step k v^T (Ba et al. 2016, eq. 1), then q A."""
    normalize, silu = nn.functional.normalize, nn.functional.silu
    matrix, outputs = memory.initial_memory.detach().clone(), []
    for token in states:
        key, query = (normalize(silu(proj(token)), dim=-1) for proj in (memory.k_proj, memory.q_proj))
        step = memory.inner_lr * memory.step_proj(token).sigmoid()
        matrix = (1 - memory.forget_proj(token).sigmoid()) * matrix
        matrix = matrix + step * torch.outer(key, silu(memory.v_proj(token)))
        outputs.append(memory.o_proj(query @ matrix))
    return torch.stack(outputs)


def looked_up(memory: RetrievalMemory, states: torch.Tensor) -> torch.Tensor:
    """Pairs of one sequence (length, width), the oldest first: the best are weighed by the softmax of their scores."""
    pairs = list(zip(memory.initial_keys, memory.initial_values, strict=True))
    outputs = []
    for token in states:
        query = memory.q_proj(token)
        scored = [(float(query @ key) / len(query) ** 0.5, value) for key, value in pairs]
        best = sorted(scored, key=lambda pair: pair[0], reverse=True)[: memory.top_k]
        weights = torch.tensor([score for score, _ in best]).softmax(dim=0)
        outputs.append(memory.o_proj(sum(weight * value for weight, (_, value) in zip(weights, best, strict=True))))
        pairs = [*pairs[1:], (memory.k_proj(token), memory.v_proj(token))]
    return torch.stack(outputs)


REFERENCES: dict[type[Memory], Any] = {AssociativeMemory: associated, RetrievalMemory: looked_up}
EVERY_KIND = pytest.mark.parametrize("kind", REFERENCES, ids=lambda kind: kind.__name__)


def made(kind: type[Memory], **decided: Any) -> Any:
    memory = kind(component_config(update_at_inference=True, memory_inner_lr=0.8, **decided), layer_idx=0)
    perturb(memory)
    return memory


@EVERY_KIND
@pytest.mark.parametrize("length", [1, 3, 5, 6, 7, 12, LENGTH])
@torch.no_grad()
def test_chunks_equal_what_is_written_token_by_token(kind: type[Memory], length: int) -> None:
    memory = made(kind)
    states = hidden_states(memory.config, length=length)
    wanted = torch.stack([REFERENCES[kind](memory, row) for row in states])
    torch.testing.assert_close(memory(states, None), wanted, rtol=1e-5, atol=2e-6)


@EVERY_KIND
@pytest.mark.parametrize("pieces", [[1] * LENGTH, [5, 1, 1, 8, 4], [6, 6, 7], [2, 17]])
@torch.no_grad()
def test_pieces_with_a_cache_and_padding_equal_the_whole(kind: type[Memory], pieces: list[int]) -> None:
    memory, cache = made(kind, first_memory_state=2), Cache(layers=[LinearAttentionLayer(number_of_states=8)])
    states = hidden_states(memory.config, length=LENGTH)
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[0, :6] = 0
    mask[1, 9:11] = 0
    parts = zip(states.split(pieces, dim=1), mask.split(pieces, dim=1), strict=True)
    found = torch.cat([memory(piece, own, cache) for piece, own in parts], dim=1)
    for row in range(2):
        real = mask[row].bool()
        wanted = memory(states[row : row + 1, real], None)[0]
        torch.testing.assert_close(found[row, real], wanted, rtol=1e-5, atol=2e-6)


@EVERY_KIND
def test_a_memory_that_learns_in_training_alone_gives_what_it_began_with(kind: type[Memory]) -> None:
    learning = made(kind)
    frozen = kind(component_config(memory_inner_lr=0.8), layer_idx=0)
    frozen.load_state_dict(learning.state_dict())
    states = hidden_states(frozen.config, length=LENGTH)
    assert torch.equal(frozen.train()(states, None), learning(states, None))
    assert not torch.allclose(frozen.eval()(states, None), learning(states, None), atol=1e-3)
    (learning(states, None)[:, 1:] ** 2).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in learning.parameters())
