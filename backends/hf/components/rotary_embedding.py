"""Rotary position tables (Su et al. 2021, eq. 34), made once per forward pass and shared by the layers.

The tables hold `cat(angles, angles)`: both halves are the same, so a rotation that pairs neighbours reads one half.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update


class RotaryEmbedding(nn.Module):
    """Cosines and sines of the rotary angles, each of shape (batch, length, rotary width)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.max_seq_len_cached = config.max_position_embeddings
        self.original_max_seq_len = config.max_position_embeddings
        self.config = config
        self.rope_type = config.rope_parameters["rope_type"]
        rope_init_fn: Callable[..., tuple[torch.Tensor, float]] = self.compute_default_rope_parameters
        if self.rope_type != "default":
            rope_init_fn = ROPE_INIT_FUNCTIONS[self.rope_type]
        inv_freq, self.attention_scaling = rope_init_fn(config)
        self.inv_freq = nn.Buffer(inv_freq, persistent=False)
        self.original_inv_freq = nn.Buffer(inv_freq.clone(), persistent=False)

    @staticmethod
    def compute_default_rope_parameters(config: PreTrainedConfig, **kwargs: Any) -> tuple[torch.Tensor, float]:
        """The inverse frequencies of the unscaled rope, and the factor on its cosines and sines, which is 1."""
        base = config.rope_parameters["rope_theta"]
        if config.partial_rotary:
            dim = int(config.head_dim * config.rope_parameters["partial_rotary_factor"])
        else:
            dim = config.head_dim
        inv_freq = 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float) / dim))
        return inv_freq, 1.0

    @torch.no_grad()
    @dynamic_rope_update  # scaled ropes may change their frequencies with the length
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        freqs = position_ids[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)
        if self.config.rope_neighbours:
            emb = torch.repeat_interleave(freqs, 2, dim=-1)
        else:
            emb = torch.cat((freqs, freqs), dim=-1)
        cos = emb.cos() * self.attention_scaling
        sin = emb.sin() * self.attention_scaling
        if self.config.rope_in_float32:
            return cos, sin
        else:
            return cos.to(dtype=x.dtype), sin.to(dtype=x.dtype)
