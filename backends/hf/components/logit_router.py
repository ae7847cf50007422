"""Choice of the experts of each token by their logits."""

import torch
from torch import nn
from transformers import PreTrainedConfig


class LogitRouter(nn.Module):
    """Keeps the k largest logits of each token and scores these alone (Shazeer et al. 2017, eq. 3)."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.top_k = sizes.num_experts_per_tok
        if sizes.num_identity_experts is not None:
            self.num_experts = sizes.num_experts + sizes.num_identity_experts
        else:
            self.num_experts = sizes.num_experts
        self.hidden_dim = config.hidden_size
        if sizes.router_logit_softcapping is not None:
            self.softcap = sizes.router_logit_softcapping
        if config.router_norm == "eps":
            self.norm_eps = sizes.router_norm_eps
        elif config.router_norm == "floor":
            self.norm_floor = sizes.router_norm_floor
        elif config.router_norm == "power":
            self.norm_power = sizes.router_norm_power
        if sizes.routed_scaling_factor is not None:
            self.routed_scaling_factor = sizes.routed_scaling_factor
        self.weight = nn.Parameter(torch.empty(self.num_experts, self.hidden_dim))
        if config.router_bias:
            self.bias = nn.Parameter(torch.empty(self.num_experts))
        if config.router_correction:
            # Balances the load: it moves the choice, never the weights
            self.e_score_correction_bias = nn.Buffer(torch.zeros(self.num_experts))

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns logits (tokens, experts), and the weights and the indices of the chosen experts (tokens, k)."""
        hidden_states = hidden_states.reshape(-1, self.hidden_dim)
        if self.config.router_in_float32:
            if self.config.router_bias:
                router_logits = nn.functional.linear(hidden_states.float(), self.weight.float(), self.bias.float())
            else:
                router_logits = nn.functional.linear(hidden_states.float(), self.weight.float())
        elif self.config.router_bias:
            router_logits = nn.functional.linear(hidden_states, self.weight, self.bias)
        else:
            router_logits = nn.functional.linear(hidden_states, self.weight)
        if self.config.router_logit_softcapping is not None:
            router_logits = torch.tanh(router_logits.float() / self.softcap) * self.softcap

        if self.config.router_correction:
            top_k_index = torch.topk(router_logits + self.e_score_correction_bias, self.top_k, dim=-1)[1]
            top_k_logits = router_logits.gather(1, top_k_index)
        else:
            top_k_logits, top_k_index = torch.topk(router_logits, self.top_k, dim=-1)
        if self.config.router_scores_in_float32:
            top_k_logits = top_k_logits.float()
        if self.config.router_score == "softmax":
            top_k_weights = nn.functional.softmax(top_k_logits, dim=-1)
        elif self.config.router_score == "sigmoid":
            top_k_weights = top_k_logits.sigmoid()
        else:
            top_k_weights = nn.functional.softplus(top_k_logits).sqrt()

        if self.config.router_norm == "guarded":
            top_k_weights = top_k_weights / (top_k_weights.sum(dim=-1, keepdim=True) + 1e-20)
        elif self.config.router_norm == "eps":
            top_k_weights = top_k_weights / (top_k_weights.sum(dim=-1, keepdim=True) + self.norm_eps)
        elif self.config.router_norm == "floor":
            top_k_weights = top_k_weights / top_k_weights.sum(dim=-1, keepdim=True).clamp(min=self.norm_floor)
        elif self.config.router_norm == "power":
            top_k_weights = top_k_weights / torch.norm(top_k_weights, p=self.norm_power, dim=-1, keepdim=True)
        if self.config.routed_scaling_factor is not None:
            top_k_weights = top_k_weights * self.routed_scaling_factor
        if self.config.router_weights_dtype == "model":
            top_k_weights = top_k_weights.to(hidden_states.dtype)
        return router_logits, top_k_weights, top_k_index
