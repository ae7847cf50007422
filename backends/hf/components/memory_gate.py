"""How a memory's output meets that of the mixer beside it."""

import torch
from torch import nn
from transformers import PreTrainedConfig

from eulerc.backends.hf.components.rms_norm import RMSNorm as GateNorm


class MemoryGate(nn.Module):
    """The mixer's output, gated by the memory's; both are normed by weights of their own (Titans, eq. 28)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.mixer_norm = GateNorm(config.hidden_size, eps=sizes.memory_norm_eps)
        self.memory_norm = GateNorm(config.hidden_size, eps=sizes.memory_norm_eps)

    def forward(self, mixed: torch.Tensor, remembered: torch.Tensor) -> torch.Tensor:
        return self.mixer_norm(mixed) * self.memory_norm(remembered).sigmoid()
