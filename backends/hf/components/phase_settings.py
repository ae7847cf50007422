"""What a call of `generate` asks for, where it generates in phases."""

import copy
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel


def phase_settings(
    model: PreTrainedModel,
    generation_config: GenerationConfig | None,
    kwargs: dict[str, Any],
) -> tuple[GenerationConfig, dict[str, Any]]:
    """The settings of a call of `generate`, and its arguments that are none."""
    config = model.config
    settings = GenerationConfig() if generation_config is None else copy.deepcopy(generation_config)
    settings.update(**model.generation_config.to_dict(), defaults_only=True, allow_custom_entries=True)
    if config.phases_by_token:
        if getattr(settings, "transition_token_id", None) is None:
            settings.transition_token_id = config.transition_token_id
        kwargs = settings.update(**kwargs)
        if settings.transition_token_id is None or not eos_tokens(settings):
            raise ValueError("Phases end with transition_token_id and eos_token_id: pass both, or set the config's")
        return settings, kwargs
    else:
        kwargs = settings.update(**kwargs)
        return settings, kwargs


def eos_tokens(settings: GenerationConfig) -> list[int]:
    """The tokens that end a sequence."""
    ids = settings.eos_token_id
    if ids is None:
        return []
    return list(ids) if isinstance(ids, list | tuple) else [int(ids)]


def padding_token(settings: GenerationConfig) -> int:
    """What pads a batch of sequences."""
    return settings.pad_token_id if settings.pad_token_id is not None else (eos_tokens(settings) or [0])[0]


def with_sequences(output: Any, sequences: torch.Tensor) -> Any:
    """What `generate` gives, with other sequences in it."""
    if isinstance(output, torch.Tensor):
        return sequences
    output.sequences = sequences
    return output
