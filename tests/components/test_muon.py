"""Muon equals torch's for matrices and AdamW for the rest, and its iterations do what they say."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from eulerc.backends.hf.components.muon import Muon, orthogonalized

STANDARD = ((3.4445, -4.775, 2.0315),) * 5
STABLE = ((2.0, -1.5, 0.5),) * 4


def matrices(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def steps(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, count: int = 4) -> torch.Tensor:
    """The parameter after some steps on fixed gradients."""
    for step in range(count):
        parameter.grad = matrices(*parameter.shape, seed=step + 1)
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (16, 16)])
def test_matrices_step_as_with_torch(shape):
    ours, theirs = nn.Parameter(matrices(*shape)), nn.Parameter(matrices(*shape))
    options = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9}
    reference = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **options)
    found = steps(Muon([{"params": [ours], "use_muon": True}], **options), ours)
    wanted = steps(reference, theirs)
    torch.testing.assert_close(found, wanted)


def test_vectors_step_as_with_adamw():
    ours, theirs = nn.Parameter(matrices(7)), nn.Parameter(matrices(7))
    options = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95)}
    found = steps(Muon([{"params": [ours]}], **options), ours)
    torch.testing.assert_close(found, steps(torch.optim.AdamW([theirs], **options), theirs))


def test_a_stack_of_matrices_steps_as_each_by_itself():
    stack = nn.Parameter(matrices(3, 8, 12))
    steps(Muon([{"params": [stack], "use_muon": True}]), stack, count=1)
    gradients = matrices(3, 8, 12, seed=1)
    for index in range(3):
        single = nn.Parameter(matrices(3, 8, 12)[index].clone())
        single.grad = gradients[index]
        Muon([{"params": [single], "use_muon": True}]).step()
        torch.testing.assert_close(stack[index], single, rtol=1e-2, atol=1e-5)


def test_stabilizing_iterations_bring_singular_values_to_one():
    def spread(iterations):
        return (torch.linalg.svdvals(orthogonalized(matrices(24, 40), iterations).float()) - 1).abs().max()

    assert spread(STANDARD) < 0.4
    assert spread(STANDARD + STABLE) < 0.03


def test_a_saved_optimizer_goes_on_where_it_was():
    vector, matrix = nn.Parameter(matrices(5)), nn.Parameter(matrices(6, 4))
    groups = [{"params": [vector]}, {"params": [matrix], "use_muon": True}]
    optimizer = Muon(groups, lr=0.01)
    for parameter in (vector, matrix):
        steps(optimizer, parameter, 2)
    copies = [nn.Parameter(parameter.detach().clone()) for parameter in (vector, matrix)]
    other = Muon([{"params": [copies[0]]}, {"params": [copies[1]], "use_muon": True}], lr=0.01)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for mine, theirs in zip(copies, (vector, matrix), strict=True):
        theirs.grad = mine.grad = matrices(*mine.shape, seed=9)
    optimizer.step()
    other.step()
    assert torch.equal(copies[0], vector)
    assert torch.equal(copies[1], matrix)
