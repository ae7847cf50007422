"""A gate over the mixers of a layer."""

import torch
from torch import nn
from transformers import PreTrainedConfig


class BranchSelector(nn.Module):
    """Weighs what the branches give by a softmax of what they read."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        if config.selects:
            self.top_k = sizes.num_branches_per_tok
        self.gate = nn.Linear(config.hidden_size, sizes.num_branches, bias=False)

    def forward(self, hidden_states: torch.Tensor, outputs: list[torch.Tensor]) -> torch.Tensor:
        logits = self.gate(hidden_states).float()
        if self.config.selects:
            kept = logits.topk(self.top_k, dim=-1)
            logits = torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values)
        weights = logits.softmax(dim=-1).to(hidden_states.dtype)
        return (torch.stack(outputs, dim=-1) * weights[..., None, :]).sum(dim=-1)
