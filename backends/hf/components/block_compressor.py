"""One key for every block of tokens (DeepSeek-AI 2026, DeepSeek-V4, section 2.3; Yuan et al. 2025, eq. 7)."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache

from eulerc.backends.hf.components.block_states import (
    ending_blocks,
    merged_blocks,
    with_earlier_tokens,
)
from eulerc.backends.hf.components.rms_norm import RMSNorm as LatentNorm
from eulerc.backends.hf.components.rotary_embedding import RotaryEmbedding
from eulerc.backends.hf.components.trailing_rotary import fitted_table, rotate_last


class BlockPool(nn.Module):
    """Makes one key of a block for every head: (batch, blocks, tokens, channels) -> (batch, blocks, heads, width)."""

    def __init__(self, config: PreTrainedConfig, pooled_heads: int, pooled_dim: int, block_size: int) -> None:
        super().__init__()
        self.config = config
        self.num_heads = pooled_heads
        self.head_dim = pooled_dim
        if config.overlapping_series:
            self.block_size = block_size
        if config.pool in ("softmax_gated", "learned_pool"):
            if config.overlapping_series:
                # A token has two keys, one for the next block and one for its own
                self.position_bias = nn.Parameter(torch.zeros(block_size // 2, 2 * pooled_heads * pooled_dim))
            else:
                self.position_bias = nn.Parameter(torch.zeros(block_size, pooled_heads * pooled_dim))
        if config.pool == "learned_pool":
            self.in_proj = nn.Linear(block_size * pooled_dim, pooled_dim, bias=False)
            self.out_proj = nn.Linear(pooled_dim, pooled_dim, bias=False)

    def forward(self, tokens: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:
        """`absent` (batch, blocks, tokens) marks those before the first token, which no block has."""
        if self.config.overlapping_series:
            absent = absent[..., None, None]
        if self.config.pool == "softmax_gated":
            keys, gates = tokens.chunk(2, dim=-1)
            keys, gates = self.by_head(keys), self.by_head(gates) + self.by_head(self.position_bias)
            if self.config.overlapping_series:
                gates = gates.masked_fill(absent, float("-inf"))
            weights = gates.softmax(dim=2, dtype=torch.float32).to(keys.dtype)
            return (keys * weights).sum(dim=2)
        elif self.config.pool == "learned_pool":
            keys = self.by_head(tokens) + self.by_head(self.position_bias).to(tokens.dtype)
            if self.config.overlapping_series:
                keys = keys.masked_fill(absent, 0)
            hidden_states = self.in_proj(keys.transpose(2, 3).flatten(-2))
            return self.out_proj(nn.functional.gelu(hidden_states))
        elif self.config.pool == "mean":
            keys = self.by_head(tokens)
            if self.config.overlapping_series:
                return keys.masked_fill(absent, 0).sum(dim=2) / (~absent).sum(dim=2)
            else:
                return keys.mean(dim=2)
        else:
            keys = self.by_head(tokens)
            if self.config.overlapping_series:
                keys = keys.masked_fill(absent, float("-inf"))
            return keys.amax(dim=2)

    def by_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """What tokens (..., tokens, channels) have in their block, (..., tokens, heads, width)."""
        if self.config.overlapping_series:
            # The first half of its tokens are those of the block before
            following, own = tokens.chunk(2, dim=-1)
            half = self.block_size // 2
            tokens = torch.cat((following[..., :half, :], own[..., -half:, :]), dim=-2)
        return tokens.unflatten(-1, (self.num_heads, self.head_dim))


class BlockCompressor(nn.Module):
    """Projects tokens to keys, pools those of each block that ends, and keeps the blocks."""

    def __init__(
        self,
        config: PreTrainedConfig,
        layer_idx: int,
        pooled_heads: int,
        pooled_dim: int,
        block_size: int,
        stride: int,
        state_idx: int,
    ) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.num_heads = pooled_heads
        self.head_dim = pooled_dim
        self.block_size = block_size
        self.stride = stride
        self.state_idx = state_idx
        if config.overlapping_series:
            # The first half of a block is the second half of the one before
            self.needed = stride
            channels = 2 * pooled_heads * pooled_dim
        else:
            self.needed = block_size
            channels = pooled_heads * pooled_dim
        self.kv_proj = nn.Linear(config.hidden_size, channels, bias=False)
        if config.pool == "softmax_gated":
            self.gate_proj = nn.Linear(config.hidden_size, channels, bias=False)
        self.pool = BlockPool(config, pooled_heads, pooled_dim, block_size)
        if config.block_norm:
            self.norm = LatentNorm(pooled_dim, eps=sizes.latent_norm_eps)
        if config.block_rope:
            self.rotary_emb = RotaryEmbedding(config)
            if config.rope_labels == "layer_types":
                self.rope_label = config.layer_types[layer_idx]
            elif config.rope_labels == "block_types":
                self.rope_label = config.block_types[layer_idx]

    def forward(
        self,
        hidden_states: torch.Tensor,
        first: torch.Tensor,
        total: int,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
    ) -> torch.Tensor:
        """The keys of all blocks so far, (batch, heads, blocks, width), after `total` columns of tokens.

        `hidden_states` (batch, length, width) begin at the positions `first` (batch,).
        """
        layer_idx = cache_slot if self.config.shared_module else self.layer_idx
        seq_length = hidden_states.shape[1]
        states = self.kv_proj(hidden_states)
        if self.config.pool == "softmax_gated":
            states = torch.cat((states, self.gate_proj(hidden_states)), dim=-1)
        earlier = None
        if past_key_values is not None:
            earlier = past_key_values.get_recurrent_state(layer_idx, self.state_idx)
        before = self.block_size - 1
        states = with_earlier_tokens(states, before, past_key_values, layer_idx, self.state_idx)

        numbers = ending_blocks(first, seq_length, self.needed, self.stride)
        starts = numbers * self.stride + self.needed - self.block_size
        positions = starts[:, :, None] + torch.arange(self.block_size, device=starts.device)
        columns = (positions - first[:, None, None] + before).clamp(0, states.shape[1] - 1)
        columns = columns.flatten(1).expand(states.shape[0], -1)
        tokens = states.gather(1, columns[..., None].expand(-1, -1, states.shape[-1]))
        tokens = tokens.view(states.shape[0], *positions.shape[1:], -1)
        if self.config.overlapping_series:
            # Blocks below 0 are none, and would have no token
            absent = (positions < 0) & (numbers >= 0)[..., None]
            blocks = self.pool(tokens, absent)
        else:
            blocks = self.pool(tokens)
        if self.config.block_norm:
            blocks = self.norm(blocks)
        blocks = blocks.transpose(1, 2)
        if self.config.block_rope:
            where = (numbers * self.stride).clamp(min=0)
            if self.config.rope_labels is not None:
                cos, sin = self.rotary_emb(blocks, where, self.rope_label)
            else:
                cos, sin = self.rotary_emb(blocks, where)
            if self.config.narrow_index:
                cos, sin = fitted_table(cos, self.head_dim), fitted_table(sin, self.head_dim)
            blocks = rotate_last(blocks, cos, sin)
        kept = total // self.stride
        return merged_blocks(blocks, numbers, kept, past_key_values, layer_idx, self.state_idx, earlier)
