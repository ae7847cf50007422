"""Training on sequences of several phases: what each label counts, and what it may be predicted from."""

import torch
from torch import nn
from transformers import PreTrainedConfig


def since_ends(config: PreTrainedConfig, input_ids: torch.Tensor, is_counted: torch.Tensor) -> torch.Tensor:
    """How many tokens up to each one are counted, from the last end of a sequence on: (batch, length)."""
    counts = is_counted.cumsum(dim=-1)
    eos_token_id = config.eos_token_id
    if eos_token_id is None:
        return counts
    ends = torch.isin(input_ids, torch.tensor(eos_token_id, device=input_ids.device))
    before = (counts * ends).cummax(dim=-1).values
    return counts - nn.functional.pad(before, (1, 0))[:, :-1]


def is_predicted(labels: torch.Tensor) -> torch.Tensor:
    """Whether a token is a label, which the first of a row never is: (batch, length), bool."""
    return nn.functional.pad(labels[:, 1:] != -100, (1, 0))


def phases_by_transition(config: PreTrainedConfig, input_ids: torch.Tensor) -> torch.Tensor:
    """The phase of each token, as a label and as what later ones see: (batch, length), int64.

    A transition token opens the phase behind it: to end a phase is learned with the next one. Behind the end of a
    sequence the first phase begins again.
    """
    transition_token_id = config.transition_token_id
    if transition_token_id is None:
        raise ValueError("Labels belong to phases by transition_token_id: set it in the config")
    opened = since_ends(config, input_ids, input_ids == transition_token_id)
    return opened.clamp(max=len(config.execution_modes) - 1)


def phases_by_count(config: PreTrainedConfig, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The phase of each token, as a label and as what later ones see: (batch, length), int64.

    The first label begins the first phase, and again the first behind the end of a sequence.
    """
    counts = since_ends(config, input_ids, is_predicted(labels))
    budgets = torch.tensor([mode["max_tokens"] for mode in config.execution_modes[:-1]], dtype=torch.long)
    return torch.bucketize((counts - 1).clamp(min=0), budgets.cumsum(dim=0).to(counts.device), right=True)


def phase_weighted_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    shift_labels: torch.Tensor | None = None,
    **kwargs: object,
) -> torch.Tensor:
    """Cross entropy of the next tokens, each times its weight: a scalar, float32.

    A mean over all labels, those of weight 0 among them, so that parts of an accumulated batch add up. `logits` are
    (batch, length, vocabulary), `labels` and `weights` (batch, length), not shifted; `shift_labels` are, if given.
    """
    targets = nn.functional.pad(labels, (0, 1), value=-100)[:, 1:] if shift_labels is None else shift_labels
    targets = targets.to(logits.device)
    weights = torch.cat((weights[:, 1:], weights[:, -1:]), dim=-1).to(logits.device)
    losses = nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    if num_items_in_batch is None:
        num_items_in_batch = (targets != -100).sum()
    return (losses * weights.flatten()).sum() / num_items_in_batch


def phase_views(
    config: PreTrainedConfig,
    phases: torch.Tensor,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    attention_mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """The rows to compute, so that what follows a phase that does not share is predicted without it.

    A row begins anew behind each such phase, with the tokens before that it sees: ids and mask of shape
    (views * batch, width), not padded on the left. Third, where among them stands what predicts the token behind each.
    """
    shares = torch.tensor([mode["kv_share"] for mode in config.execution_modes[:-1]] + [True], device=phases.device)
    # What stands before the first label is the prompt, which all phases see
    is_shared = shares[phases] | (since_ends(config, input_ids, is_predicted(labels)) == 0)
    begins = nn.functional.pad((phases[:, 1:] != phases[:, :-1]) & ~is_shared[:, :-1], (1, 0))
    views = begins.cumsum(dim=-1)
    numbers = torch.arange(int(views.max()) + 1, device=views.device)[:, None, None]
    is_seen = (views == numbers) | ((views < numbers) & is_shared)
    if attention_mask is not None:
        is_seen = is_seen & attention_mask.bool()

    # The tokens of a view in their order, the others behind them
    lengths = is_seen.sum(dim=-1)
    order = (~is_seen).to(torch.uint8).argsort(dim=-1, stable=True)[..., : int(lengths.max())]
    view_ids = input_ids.expand(len(numbers), -1, -1).gather(-1, order).flatten(0, 1)
    view_mask = is_seen.gather(-1, order).flatten(0, 1).long()

    # A token is predicted from the one before it in its own view; the last predicts from itself
    rows = torch.arange(len(input_ids), device=views.device)[:, None]
    columns = torch.arange(input_ids.shape[1], device=views.device)
    places = is_seen.cumsum(dim=-1)[views, rows, columns] - 1
    places = torch.cat((places[:, 1:] - 1, places[:, -1:]), dim=-1).clamp(min=0)
    views = torch.cat((views[:, 1:], views[:, -1:]), dim=-1)
    return view_ids, view_mask, (views * len(input_ids) + rows, places)
