"""What a model with recurrent layers asks of its inputs."""

import torch
from transformers.utils import is_tracing


def refuse_packed_sequences(position_ids: torch.Tensor | None) -> None:
    """Raises ValueError where positions start again within a row: a recurrence does not end with a sequence."""
    if position_ids is None or position_ids.shape[-1] == 1 or is_tracing(position_ids):
        return
    if (position_ids.diff(dim=-1) < 0).any():
        raise ValueError(
            "position_ids start again within a row, but recurrent layers cannot tell packed sequences apart: "
            "give each sequence a row of its own and pad on the left"
        )
