"""Weights that an optimiser changes within a sequence, as every token of a mini-batch has them."""

import torch


class DescendedWeights:
    """A matrix under gradient descent, in the dual form of Sun et al. 2024 (section 2.5): never one matrix a token.

    After some steps token t has the matrix of the last mini-batch, less the `sums` of inputs^T errors over the tokens
    of this one that came before, and less the same over those that came with it, up to t. `weights` is (batch, heads,
    in, out) and `sums` (batch, steps, heads, in, out).
    """

    def __init__(self, weights: torch.Tensor, sums: torch.Tensor) -> None:
        self.first_weights = weights
        self.weights = weights
        self.sums = sums
        self.inputs: list[torch.Tensor] = []
        self.errors: list[torch.Tensor] = []

    def apply(self, states: torch.Tensor) -> torch.Tensor:
        """Each token's `states`, (batch, heads, length, in), times its own matrix."""
        output = states @ self.weights
        for inputs, errors in zip(self.inputs, self.errors, strict=True):
            output = output - (states @ inputs.mT).tril() @ errors
        return output

    def apply_transposed(self, states: torch.Tensor) -> torch.Tensor:
        """Each token's `states`, (batch, heads, length, out), times the transpose of its own matrix."""
        output = states @ self.weights.mT
        for inputs, errors in zip(self.inputs, self.errors, strict=True):
            output = output - (states @ errors.mT).tril() @ inputs
        return output

    def step(self, inputs: torch.Tensor, errors: torch.Tensor) -> None:
        """Goes down the gradients inputs^T errors of the tokens up to each; `errors` come with learning rates."""
        self.weights = self.weights - self.sums[:, len(self.inputs)]
        self.inputs.append(inputs)
        self.errors.append(errors)

    def finish(self, is_full: torch.Tensor) -> list[torch.Tensor]:
        """Weights and sums for tokens that follow: those of a new mini-batch where this one `is_full`, (batch,)."""
        gradients = [inputs.mT @ errors for inputs, errors in zip(self.inputs, self.errors, strict=True)]
        sums = self.sums + torch.stack(gradients, dim=1)
        is_full = is_full[:, None, None, None]
        weights = torch.where(is_full, self.first_weights - sums.sum(dim=1), self.first_weights)
        return [weights, sums.masked_fill(is_full[:, None], 0.0)]


class AdamWeights:
    """A matrix under AdamW (Loshchilov & Hutter 2019, algorithm 2), one for each token: its steps are not linear.

    A step of token t takes the gradients of its mini-batch up to t together. Moments are those of the last mini-batch,
    shaped as `weights`, which are (batch, heads, in, out); `sums` is (batch, steps, heads, in, out), and
    `steps_before` (batch,) counts the steps of finished mini-batches.
    """

    def __init__(
        self,
        states: list[torch.Tensor],
        steps_before: torch.Tensor,
        learning_rate: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        self.states = states
        weights, self.sums, mean, square = states
        self.weights, self.mean, self.square = weights[:, :, None], mean[:, :, None], square[:, :, None]
        self.steps_before = steps_before
        self.learning_rate = learning_rate
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.gradients: list[torch.Tensor] = []

    def apply(self, states: torch.Tensor) -> torch.Tensor:
        """Each token's `states`, (batch, heads, length, in), times its own matrix."""
        return (states[..., None, :] @ self.weights).squeeze(-2)

    def apply_transposed(self, states: torch.Tensor) -> torch.Tensor:
        """Each token's `states`, (batch, heads, length, out), times the transpose of its own matrix."""
        return (states[..., None, :] @ self.weights.mT).squeeze(-2)

    def step(self, inputs: torch.Tensor, errors: torch.Tensor) -> None:
        """One step down the gradients inputs^T errors of the tokens up to each."""
        gradients = (inputs[..., :, None] * errors[..., None, :]).cumsum(dim=2)
        gradients = gradients + self.sums[:, len(self.gradients), :, None]
        self.gradients.append(gradients[:, :, -1])
        first, second = self.betas
        number = (self.steps_before + len(self.gradients))[:, None, None, None, None]
        self.mean = first * self.mean + (1 - first) * gradients
        self.square = second * self.square + (1 - second) * gradients**2
        # Without a gradient so far the root has a slope without end
        root = (self.square / (1 - second**number)).clamp(min=1e-30).sqrt()
        change = self.mean / (1 - first**number) / (root + self.eps) + self.weight_decay * self.weights
        self.weights = self.weights - self.learning_rate * change

    def finish(self, is_full: torch.Tensor) -> list[torch.Tensor]:
        """Weights, sums and moments for the tokens that follow: those of a new mini-batch where this one `is_full`."""
        is_full = is_full[:, None, None, None]
        sums = torch.stack(self.gradients, dim=1).masked_fill(is_full[:, None], 0.0)
        changed = (states[:, :, -1] for states in (self.weights, self.mean, self.square))
        before = (self.states[0], *self.states[2:])
        weights, mean, square = (torch.where(is_full, *pair) for pair in zip(changed, before, strict=True))
        return [weights, sums, mean, square]
