"""Mixture-of-Depths (Raposo et al. 2024): some tokens go through a layer, and the others past it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache

from eulerc.backends.hf.components.depth_router import DepthRouter


class DepthGate(nn.Module):
    """Lets tokens through a layer (eq. 1): in training those with the largest logits, otherwise those above 0."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.router = DepthRouter(config.hidden_size, sizes.depth_capacity, sizes.depth_loss_coef)

    def forward(
        self,
        layer: Callable[..., torch.Tensor],
        hidden_states: torch.Tensor,
        by_token: dict[str, Any],
        attention_mask: torch.Tensor,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Runs `layer` on some tokens of (batch, length, hidden); the others stay as they are.

        `by_token` is what else the layer reads that has a row for each token; `attention_mask` is of shape
        (batch, 1 or heads, length, key length), boolean or additive.
        """
        if self.training and past_key_values is None:
            router_logits, index, within, _ = self.router(hidden_states, attention_mask)
            weights = self.weights(router_logits.gather(1, index), hidden_states.dtype)
            sent = taken(hidden_states, index)
            rows, columns = index[:, None, :, None], index[:, None, None, :]
            mask = attention_mask.take_along_dim(rows, dim=2).take_along_dim(columns, dim=3)
            mask = without_hidden(mask, within, within)
            by_token = {name: taken(values, index) for name, values in by_token.items()}
            processed = layer(sent, attention_mask=mask, **by_token, **kwargs)
            added = (weights * (processed - sent)).masked_fill(~within.unsqueeze(-1), 0.0)
            return hidden_states.scatter_add(1, index.unsqueeze(-1).expand_as(added), added)

        (router_logits,) = self.router(hidden_states)
        goes = router_logits > 0
        visible = goes
        if past_key_values is not None:
            # The cache holds keys of every token, and beside them which may be seen
            record = goes.to(hidden_states.dtype).unsqueeze(-1)
            if self.config.shared_module:
                record = past_key_values.update_indexer(record, cache_slot)
            else:
                record = past_key_values.update_indexer(record, self.layer_idx)
            visible = record.squeeze(-1) > 0
        mask = without_hidden(attention_mask, visible, goes)
        if self.config.shared_module:
            kwargs["cache_slot"] = cache_slot
        processed = layer(hidden_states, attention_mask=mask, past_key_values=past_key_values, **by_token, **kwargs)
        weights = self.weights(router_logits, hidden_states.dtype)
        return torch.where(goes.unsqueeze(-1), hidden_states + weights * (processed - hidden_states), hidden_states)

    def weights(self, router_logits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The factors on what the layer adds to its tokens, (batch, tokens, 1)."""
        if self.config.depth_router == "learned_gate":
            return router_logits.sigmoid().to(dtype).unsqueeze(-1)
        return router_logits.to(dtype).unsqueeze(-1)


def taken(values: Any, index: torch.Tensor) -> Any:
    """The rows of tokens (batch, k) out of (batch or 1, length, ...), out of a tuple of such, or of nothing."""
    if values is None:
        return None
    if isinstance(values, tuple):
        return tuple(taken(part, index) for part in values)
    return values.take_along_dim(index.view(*index.shape, *[1] * (values.dim() - 2)), dim=1)


def without_hidden(attention_mask: torch.Tensor, visible: torch.Tensor, goes: torch.Tensor) -> torch.Tensor:
    """The mask without the keys (batch, key length) that may not be seen, for the queries that go through.

    The others keep the keys that they had: it does not matter what they see, but a softmax needs something to see.
    """
    hidden = ~visible[:, None, None, :] & goes[:, None, :, None]
    if attention_mask.dtype == torch.bool:
        return attention_mask & ~hidden
    return attention_mask.masked_fill(hidden, torch.finfo(attention_mask.dtype).min)
