"""Phases that end at their budgets, with no token to mark it."""

from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation import LogitsProcessor

from eulerc.backends.hf.components.phase_settings import eos_tokens


class PhaseLogitsProcessor(LogitsProcessor):
    """Lets the sequence end in the last of the phases `modes` only, and ends it at that phase's budget.

    It has no memory: the phase of a row follows from the number of tokens behind its prompt. The token that ends the
    sequence does not count in the budget.
    """

    def __init__(self, modes: list[dict[str, Any]], settings: GenerationConfig, prompt_length: int) -> None:
        self.budgets = [mode["max_tokens"] for mode in modes]
        self.eos_token_ids = eos_tokens(settings)
        self.prompt_length = prompt_length

    def most_tokens(self) -> int:
        """The most tokens that the phases may have, with the one that ends the sequence, if there is such a token."""
        return sum(self.budgets) + min(len(self.eos_token_ids), 1)

    def phases_of(self, generated: torch.Tensor) -> torch.Tensor:
        """Which phase each generated token belongs to and, last, the next: (rows, length) -> (rows, length + 1)."""
        places = torch.arange(generated.shape[1] + 1, device=generated.device)
        ends = torch.tensor(self.budgets[:-1], dtype=torch.long, device=generated.device).cumsum(dim=0)
        return torch.bucketize(places, ends, right=True).expand(generated.shape[0], -1)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        generated = input_ids.shape[1] - self.prompt_length
        if generated < sum(self.budgets[:-1]):
            scores = scores.clone()
            scores[:, self.eos_token_ids] = -torch.inf
        elif generated >= sum(self.budgets) and self.eos_token_ids:
            scores = torch.full_like(scores, -torch.inf)
            scores[:, self.eos_token_ids[0]] = 0.0
        return scores
