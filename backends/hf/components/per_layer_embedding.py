"""The embeddings of tokens that every layer has for itself."""

import torch
from torch import nn
from transformers import PreTrainedConfig

from eulerc.backends.hf.components.rms_norm import RMSNorm as PerLayerNorm


class PerLayerEmbedding(nn.Module):
    """A table with a part for every layer, and a projection of the stream, added to it (Gemma 3n)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.per_layer_size = config.per_layer_size
        self.scale = config.hidden_size**-0.5
        self.embed_tokens = nn.Embedding(config.vocab_size, config.num_hidden_layers * config.per_layer_size)
        self.proj = nn.Linear(config.hidden_size, config.num_hidden_layers * config.per_layer_size, bias=False)
        self.norm = PerLayerNorm(config.per_layer_size, eps=config.per_layer_norm_eps)

    def forward(self, input_ids: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """(batch, length, layers, per_layer_size)."""
        rows = self.embed_tokens(input_ids)
        # The factor is rounded to the weights' dtype, as the table's own entries are
        rows = rows * rows.new_full((), self.per_layer_size**0.5)
        projected = (self.proj(hidden_states) * self.scale).unflatten(-1, (-1, self.per_layer_size))
        return (self.norm(projected) + rows.view_as(projected)) * 2.0**-0.5
