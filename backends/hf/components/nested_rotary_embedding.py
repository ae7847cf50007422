"""Several rotary tables in one module, for models whose layers rotate in different ways."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update


class NestedRotaryEmbedding(nn.Module):
    """Cosines and sines for each label of `config.rope_parameters`, each of shape (batch, length, rotary width)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.max_seq_len_cached = config.max_position_embeddings
        self.original_max_seq_len = config.max_position_embeddings
        self.config = config
        # Older versions of transformers put keys of their own beside labels that are no layer types
        ropes = {label: rope for label, rope in config.rope_parameters.items() if isinstance(rope, dict)}
        self.rope_type = {label: rope["rope_type"] for label, rope in ropes.items()}
        for label in self.rope_type:
            inv_freq, attention_scaling = self.compute_rope_parameters(label)
            setattr(self, f"{label}_inv_freq", nn.Buffer(inv_freq, persistent=False))
            setattr(self, f"{label}_original_inv_freq", nn.Buffer(inv_freq.clone(), persistent=False))
            setattr(self, f"{label}_attention_scaling", attention_scaling)

    def compute_rope_parameters(self, layer_type: str) -> tuple[torch.Tensor, float]:
        """The inverse frequencies of one table and the factor on its cosines and sines."""
        rope_init_fn: Callable[..., tuple[torch.Tensor, float]] = self.compute_default_rope_parameters
        if self.rope_type[layer_type] != "default":
            rope_init_fn = ROPE_INIT_FUNCTIONS[self.rope_type[layer_type]]
        if self.config.rope_layers is not None:
            # Head widths differ between layers: the table takes that of a layer that reads it
            layer_idx = self.config.rope_layers[layer_type]
            return rope_init_fn(self.config.per_layer_config[layer_idx], layer_type=layer_type)
        else:
            return rope_init_fn(self.config, layer_type=layer_type)

    @staticmethod
    def compute_default_rope_parameters(
        config: PreTrainedConfig,
        layer_type: str,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, float]:
        """The inverse frequencies of the unscaled rope, and the factor on its cosines and sines, which is 1."""
        base = config.rope_parameters[layer_type]["rope_theta"]
        if config.partial_rotary:
            dim = int(config.head_dim * config.rope_parameters[layer_type].get("partial_rotary_factor", 1.0))
        else:
            dim = config.head_dim
        inv_freq = 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float) / dim))
        return inv_freq, 1.0

    @torch.no_grad()
    @dynamic_rope_update  # scaled ropes may change their frequencies with the length
    def forward(
        self,
        x: torch.Tensor,
        position_ids: torch.Tensor,
        layer_type: str,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        inv_freq = getattr(self, f"{layer_type}_inv_freq")
        attention_scaling = getattr(self, f"{layer_type}_attention_scaling")
        freqs = position_ids[..., None].float() * inv_freq.to(device=x.device, dtype=torch.float)
        emb = torch.cat((freqs, freqs), dim=-1)
        cos = emb.cos() * attention_scaling
        sin = emb.sin() * attention_scaling
        if self.config.rope_in_float32:
            return cos, sin
        else:
            return cos.to(dtype=x.dtype), sin.to(dtype=x.dtype)
