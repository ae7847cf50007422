"""Layers whose state is a model that learns (Sun et al. 2024, "Learning to (Learn at Test Time)")."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from eulerc.backends.hf.components.recurrent_state import keep_recurrent_state
from eulerc.backends.hf.components.ttt_models import InnerMLP as InnerModel
from eulerc.backends.hf.components.ttt_weights import AdamWeights, DescendedWeights


class TTTMixer(nn.Module):
    """Every head trains a model to give a token's value for its key, and gives what that model makes of the query.

    Tokens are worked on by mini-batches, which begin at positions that do not count padding: gradients are those at
    the weights of the last mini-batch (section 2.4), and what a token reads has learned from it already (eq. 5).
    """

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.layer_idx = layer_idx
        self.num_heads = sizes.num_attention_heads
        self.head_dim = sizes.head_dim
        self.mini_batch_size = sizes.ttt_mini_batch_size
        self.inner_steps = sizes.ttt_inner_steps
        self.inner_lr = sizes.ttt_inner_lr
        if config.inner_adamw:
            self.inner_betas = (sizes.ttt_inner_beta_1, sizes.ttt_inner_beta_2)
            self.inner_eps = sizes.ttt_inner_eps
            self.inner_weight_decay = sizes.ttt_inner_weight_decay

        self.q_proj = nn.Linear(config.hidden_size, self.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.num_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.num_heads * self.head_dim, bias=False)
        self.lr_proj = nn.Linear(config.hidden_size, self.num_heads, bias=False)
        if config.inner_mlp:
            self.inner_model = InnerModel(self.num_heads, self.head_dim, sizes.ttt_norm_eps, sizes.ttt_inner_size)
        else:
            self.inner_model = InnerModel(self.num_heads, self.head_dim, sizes.ttt_norm_eps)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        cache_slot: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        layer_idx = cache_slot if self.config.shared_module else self.layer_idx
        batch_size, seq_len, _ = hidden_states.shape
        query = self.q_proj(hidden_states).view(batch_size, seq_len, -1, self.head_dim).transpose(1, 2).float()
        key = self.k_proj(hidden_states).view(batch_size, seq_len, -1, self.head_dim).transpose(1, 2).float()
        value = self.v_proj(hidden_states).view(batch_size, seq_len, -1, self.head_dim).transpose(1, 2).float()
        rates = self.lr_proj(hidden_states).transpose(1, 2)[..., None].float().sigmoid()
        if not self.config.inner_adamw:
            rates = self.inner_lr * rates
        is_token = torch.ones(batch_size, seq_len, dtype=torch.bool, device=hidden_states.device)
        if attention_mask is not None:
            is_token = attention_mask.bool()
            rates = rates * is_token[:, None, :, None]

        goes_on = past_key_values is not None and past_key_values.has_previous_state(layer_idx, 0)
        seen, states = self.kept_states(past_key_values, layer_idx) if goes_on else self.first_states(batch_size)
        tokens = is_token.cumsum(dim=1)
        places = None
        if seq_len > 1:
            # Tokens go to their places in the mini-batches, of which a row may have begun one before
            begun = self.mini_batch_size - 1 if goes_on else 0
            length = -(-(seq_len + begun) // self.mini_batch_size) * self.mini_batch_size
            places = (seen % self.mini_batch_size)[:, None] + tokens - 1
            places = places.masked_fill(~is_token, length)
            query, key, value, rates = (to_places(part, places, length) for part in (query, key, value, rates))

        outputs = []
        batches = (part.split(self.mini_batch_size, dim=2) for part in (query, key, value, rates))
        end = seen % self.mini_batch_size + tokens[:, -1]
        for number, batch in enumerate(zip(*batches, strict=True)):
            is_full = end >= (number + 1) * self.mini_batch_size
            steps_before = (seen // self.mini_batch_size + number) * self.inner_steps
            output, states = self.learn(batch, states, steps_before, is_full)
            outputs.append(output)
        output = torch.cat(outputs, dim=2)
        if places is not None:
            output = from_places(output, places)
        if past_key_values is not None:
            for state_idx, state in enumerate([(seen + tokens[:, -1]).float(), *states]):
                keep_recurrent_state(past_key_values, state, layer_idx, state_idx)

        return self.o_proj(output.transpose(1, 2).flatten(2).to(hidden_states.dtype))

    def first_states(self, batch_size: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """No tokens seen, and the states of a sequence before its first, in the order of `kept_states`."""
        states = []
        weights = self.inner_model.first_weights()
        for matrix in weights:
            matrix = matrix.expand(batch_size, -1, -1, -1)
            states += [matrix, torch.zeros_like(matrix)[:, None].repeat(1, self.inner_steps, 1, 1, 1)]
            if self.config.inner_adamw:
                states += [torch.zeros_like(matrix), torch.zeros_like(matrix)]
        return torch.zeros(batch_size, dtype=torch.long, device=weights[0].device), states

    def kept_states(self, past_key_values: Any, layer_idx: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """How many tokens each row has seen, (batch,), and the states of every matrix, one after the other."""
        count = (4 if self.config.inner_adamw else 2) * len(self.inner_model.first_weights())
        seen, *states = (past_key_values.get_recurrent_state(layer_idx, state_idx) for state_idx in range(1 + count))
        return seen.long(), states

    def learn(
        self,
        batch: tuple[torch.Tensor, ...],
        states: list[torch.Tensor],
        steps_before: torch.Tensor,
        is_full: torch.Tensor,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Trains on a mini-batch: queries, keys and values (batch, heads, length, head_dim), rates (..., length, 1).

        Gives the outputs, as the queries, and the states after it.
        """
        query, key, value, rates = batch
        weights: list[Any]
        if self.config.inner_adamw:
            weights = [
                AdamWeights(
                    states[first : first + 4],
                    steps_before,
                    self.inner_lr,
                    self.inner_betas,
                    self.inner_eps,
                    self.inner_weight_decay,
                )
                for first in range(0, len(states), 4)
            ]
        else:
            weights = [DescendedWeights(*states[first : first + 2]) for first in range(0, len(states), 2)]
        for _ in range(self.inner_steps):
            self.inner_model.step(key, value, rates, weights)
        output = self.inner_model(query, weights)
        return output, [state for matrix in weights for state in matrix.finish(is_full)]


def to_places(states: torch.Tensor, places: torch.Tensor, length: int) -> torch.Tensor:
    """Moves tokens of (batch, heads, tokens, width) to `places` (batch, tokens) below `length`, and drops others."""
    batch_size, num_heads, _, width = states.shape
    index = places[:, None, :, None].expand_as(states)
    return states.new_zeros(batch_size, num_heads, length + 1, width).scatter(2, index, states)[:, :, :-1]


def from_places(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The tokens that stand at `places`; anything where none does."""
    index = places.clamp(max=states.shape[2] - 1)[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
    return states.gather(2, index)
