"""Thoughts before every token (Zelikman et al. 2024, Quiet-STaR), in parallel behind all tokens of a text."""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_utils import PreTrainedModel


class Rationales(nn.Module):
    """The embeddings around a thought, and the head that weighs predictions with and without it (section 4.3).

    `forward` takes the states of the text and those behind the thought, (batch, length, width) each, and gives the
    weight of the prediction without: (batch, length, 1).
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(2, config.hidden_size)
        self.in_proj = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.hidden_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, 1)

    def forward(self, text_states: torch.Tensor, thought_states: torch.Tensor) -> torch.Tensor:
        hidden_states = nn.functional.relu(self.in_proj(torch.cat((text_states, thought_states), dim=-1)))
        hidden_states = nn.functional.relu(self.hidden_proj(hidden_states))
        return self.out_proj(hidden_states).sigmoid()


def branched_cache(cache: Cache, copies: int) -> DynamicCache:
    """A cache of its own that goes on from the keys and values of a text, each row `copies` times."""
    length = int(cache.get_seq_length())
    branched = DynamicCache()
    for layer_idx, layer in enumerate(cache.layers):
        keys, values = (
            states[..., :length, :].repeat_interleave(copies, dim=0) for states in (layer.keys, layer.values)
        )
        branched.update(keys, values, layer_idx)
    return branched


def packed_mask(position_ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
    """The mask of sequences that are packed into rows, as their positions tell; None where there is one a row.

    (batch, length) -> (batch, 1, length, length), to be added to scores.
    """
    parts = nn.functional.pad(position_ids.diff(dim=-1) != 1, (1, 0)).cumsum(dim=-1)
    if not parts.any():
        return None
    return thoughts_mask((parts[:, :, None] == parts[:, None, :]).tril(), dtype)


def thoughts_mask(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What is added to scores: (batch, queries, keys), bool -> (batch, 1, queries, keys)."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def visible_text(attention_mask: torch.Tensor | None, places: torch.Tensor, length: int) -> torch.Tensor:
    """Which of the tokens of a text, `length` with those in the cache, each of `places` sees.

    (batch or 1, places, length), bool. The mask is one of padding, (batch, length), or was made for attention.
    """
    if attention_mask is not None and attention_mask.dim() == 4:
        seen = attention_mask if attention_mask.dtype == torch.bool else attention_mask == 0
        return seen[:, 0, places - (length - seen.shape[2]), :length]
    seen = (torch.arange(length, device=places.device) <= places[:, None])[None]
    return seen if attention_mask is None else seen & attention_mask[:, None, :length].bool()


def think(
    lm: PreTrainedModel,
    cache: Cache,
    hidden_states: torch.Tensor,
    visible: torch.Tensor,
    positions: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Thinks behind places of a text, and mixes what is predicted with and without (sections 4.2 and 4.3).

    `hidden_states` (batch, places, width) and `cache` are those of the text, of which each place sees what is
    `visible`, (batch or 1, places, length); `positions` are (batch or 1, places). Gives logits, (rationales, batch,
    places, vocabulary), and in training, where thoughts are drawn, their log-probabilities, (rationales, batch,
    places).
    """
    copies = lm.config.num_rationales if lm.training else 1
    batch, count, _ = hidden_states.shape
    rows = (batch, copies, count, -1)
    text_states = hidden_states.repeat_interleave(copies, dim=0)
    positions = positions.expand(batch, -1).repeat_interleave(copies, dim=0)
    seen = visible.expand(batch, -1, -1).repeat_interleave(copies, dim=0)
    # Behind a place only its own thought is seen
    own = torch.eye(count, dtype=torch.bool, device=seen.device).expand(batch * copies, -1, -1)
    branched = branched_cache(cache, copies)
    start, end = lm.thoughts.embeddings(torch.arange(2, device=seen.device))
    embeds = start.expand(batch * copies, count, -1)
    log_probs = torch.zeros((), device=seen.device)
    for step in range(lm.config.num_thought_tokens + 2):
        seen = torch.cat((seen, own), dim=-1)
        thought_states = lm.model(
            inputs_embeds=embeds,
            attention_mask=thoughts_mask(seen, embeds.dtype),
            position_ids=positions + step + 1,
            past_key_values=branched,
            use_cache=True,
        ).last_hidden_state
        if step >= lm.config.num_thought_tokens:
            embeds = end.expand_as(embeds)
            continue
        scores = lm.compute_logits(thought_states).float().log_softmax(dim=-1)
        if lm.training:
            tokens = scores.detach().exp().flatten(0, 1).multinomial(1).view(batch * copies, count)
            log_probs = log_probs + scores.gather(-1, tokens[..., None]).squeeze(-1)
        else:
            tokens = scores.argmax(dim=-1)
        embeds = lm.model.embed_tokens(tokens)
    weights = lm.thoughts(text_states, thought_states)
    logits = torch.lerp(lm.compute_logits(thought_states), lm.compute_logits(text_states), weights)
    logits = logits.view(rows).transpose(0, 1)
    return logits, log_probs.view(batch, copies, count).transpose(0, 1) if lm.training else None


def rationale_loss(
    logits: torch.Tensor,
    log_probs: torch.Tensor | None,
    labels: torch.Tensor,
    loss_weight: float,
    num_items_in_batch: torch.Tensor | int | None = None,
    shift_labels: torch.Tensor | None = None,
    **kwargs: object,
) -> torch.Tensor:
    """The negative log-likelihood of the next tokens, and what teaches to think (section 4.4): a scalar, float32.

    `logits` are (rationales, batch, length, vocabulary), `log_probs`, of the thoughts, (rationales, batch, length). A
    thought is as good as it makes the next token likelier than the thoughts there do on average; worse ones teach
    nothing.
    """
    targets = nn.functional.pad(labels, (0, 1), value=-100)[:, 1:] if shift_labels is None else shift_labels
    targets = targets.to(logits.device).expand(logits.shape[0], -1, -1)
    losses = nn.functional.cross_entropy(logits.float().flatten(0, 2), targets.flatten(), reduction="none")
    losses = losses.view(targets.shape)
    if log_probs is not None:
        rewards = (losses.mean(dim=0) - losses).detach().clamp(min=0)
        losses = losses - loss_weight * rewards * log_probs
    if num_items_in_batch is None:
        num_items_in_batch = (targets[0] != -100).sum()
    return losses.mean(dim=0).sum() / num_items_in_batch
