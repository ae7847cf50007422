"""Choice of the experts whose queries a token attends with."""

import torch
from torch import nn
from transformers import PreTrainedConfig


class AttentionRouter(nn.Module):
    """Keeps the k largest logits of each token, and takes the softmax of these (Shen et al. 2024, JetMoE)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.top_k = sizes.num_attention_experts_per_tok
        self.weight = nn.Parameter(torch.empty(sizes.num_attention_experts, config.hidden_size))

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns logits (tokens, experts) in float32, and weights and indices of the chosen experts (tokens, k)."""
        if self.config.attention_router_in_float32:
            router_logits = nn.functional.linear(hidden_states.float(), self.weight.float())
        else:
            router_logits = nn.functional.linear(hidden_states, self.weight).float()
        top_k_logits, top_k_index = torch.topk(router_logits, self.top_k, dim=-1)
        top_k_weights = nn.functional.softmax(top_k_logits, dim=-1).to(hidden_states.dtype)
        return router_logits, top_k_weights, top_k_index
