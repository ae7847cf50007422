"""Which tokens lie ahead within one sequence, where several are packed into a row."""

import torch
from torch import nn


def is_ahead(position_ids: torch.Tensor, distance: int) -> torch.Tensor:
    """Whether the token `distance` further on in the row, (1 or batch, length), is so in its sequence too."""
    ahead = nn.functional.pad(position_ids[:, distance:], (0, distance), value=-1)
    return ahead - position_ids == distance
