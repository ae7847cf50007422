"""An activation with parameters of its own."""

import torch
from torch import nn


class XIELU(nn.Module):
    """The trainable activation xIELU (Huang & Schlag 2024, eq. 12): quadratic above 0, exponential below."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha_p = nn.Parameter(torch.empty(1))
        self.alpha_n = nn.Parameter(torch.empty(1))
        self.beta = nn.Buffer(torch.empty(()))
        self.eps = nn.Buffer(torch.empty(()))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        alpha_p = nn.functional.softplus(self.alpha_p)
        alpha_n = self.beta + nn.functional.softplus(self.alpha_n)
        # Just below 0, expm1 of the bound and not of the entry keeps the gradient from vanishing
        negative = (torch.expm1(torch.min(hidden_states, self.eps)) - hidden_states) * alpha_n
        positive = alpha_p * hidden_states * hidden_states
        return torch.where(
            hidden_states > 0,
            positive + self.beta * hidden_states,
            negative + self.beta * hidden_states,
        )
