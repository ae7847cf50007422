"""How linear recurrent units start."""

import torch


def ring_decays(shape: torch.Size | tuple[int, ...], low: float, high: float) -> torch.Tensor:
    """Parameters whose exp(-softplus), a decay, lies between `low` and `high`, with a uniform square.

    So do the moduli of points that are spread evenly over a ring (Orvieto et al. 2023, lemma 3.2).
    """
    squares = torch.empty(shape, dtype=torch.float32).uniform_(low**2, high**2)
    return torch.log(squares.rsqrt() - 1).to(torch.get_default_dtype())
