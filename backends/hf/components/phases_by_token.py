"""Phases that the model ends by a token of its own, or else at their budgets."""

from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig
from transformers.generation import LogitsProcessor

from eulerc.backends.hf.components.phase_settings import eos_tokens


class PhaseLogitsProcessor(LogitsProcessor):
    """Ends the phases `modes` at their budgets, and lets nothing end one but its own token.

    It has no memory: the phase of a row follows from the tokens behind its prompt, so rows may be samples or beams and
    change places. The token that ends a phase does not count in its budget.
    """

    def __init__(self, modes: list[dict[str, Any]], settings: GenerationConfig, prompt_length: int) -> None:
        self.budgets = [mode["max_tokens"] for mode in modes]
        self.transition_token_id = settings.transition_token_id
        self.eos_token_ids = eos_tokens(settings)
        self.prompt_length = prompt_length

    def most_tokens(self) -> int:
        """The most tokens that the phases may have, with those that end them."""
        return sum(self.budgets) + len(self.budgets)

    def phases_of(self, generated: torch.Tensor) -> torch.Tensor:
        """Which phase each generated token belongs to and, last, the next: (rows, length) -> (rows, length + 1).

        A token that ends a phase belongs to it.
        """
        ended = (generated == self.transition_token_id).cumsum(dim=-1)
        return nn.functional.pad(ended, (1, 0)).clamp(max=len(self.budgets) - 1)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        phases = self.phases_of(input_ids[:, self.prompt_length :])
        phase = phases[:, -1:]
        is_last = phase == len(self.budgets) - 1
        used = (phases[:, :-1] == phase).sum(dim=-1, keepdim=True)
        is_spent = used >= torch.tensor(self.budgets, device=phase.device)[phase]

        scores = scores.clone()
        transition, ends = [self.transition_token_id], self.eos_token_ids
        scores[:, transition] = scores[:, transition].masked_fill(is_last, -torch.inf)
        scores[:, ends] = scores[:, ends].masked_fill(~is_last, -torch.inf)
        closing = torch.where(is_last, ends[0], transition[0])
        forced = torch.full_like(scores, -torch.inf).scatter(1, closing, 0.0)
        return torch.where(is_spent, forced, scores)
