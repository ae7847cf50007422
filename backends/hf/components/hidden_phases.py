"""Phases of generation that the user does not see."""

from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig
from transformers.generation import GenerationMixin
from transformers.generation.streamers import BaseStreamer

from eulerc.backends.hf.components.phase_settings import eos_tokens, padding_token, phase_settings, with_sequences
from eulerc.backends.hf.components.phases_by_token import PhaseLogitsProcessor


def in_visible_phases(config: PreTrainedConfig, settings: GenerationConfig, generated: torch.Tensor) -> torch.Tensor:
    """Whether the user sees a token: (rows, length), bool. What pads a row that has ended is not seen."""
    modes = config.execution_modes
    visible = torch.tensor([mode["visible_to_user"] for mode in modes], device=generated.device)
    phases = PhaseLogitsProcessor(modes, settings, prompt_length=0).phases_of(generated)[:, :-1]
    ends = torch.isin(generated, torch.tensor(eos_tokens(settings), dtype=torch.long, device=generated.device)).long()
    return visible[phases] & (ends.cumsum(dim=-1) == ends)


class VisibleStreamer(BaseStreamer):
    """Hands on to a streamer a prompt, and of the tokens behind it those that the user sees."""

    def __init__(self, streamer: BaseStreamer, config: PreTrainedConfig, settings: GenerationConfig) -> None:
        self.streamer = streamer
        self.config = config
        self.settings = settings
        self.generated: torch.Tensor | None = None

    def put(self, value: torch.Tensor) -> None:
        if self.generated is None:
            self.generated = torch.empty(1, 0, dtype=torch.long)
            self.streamer.put(value)
            return
        tokens = value.reshape(1, -1)
        self.generated = torch.cat((self.generated, tokens), dim=1)
        visible = in_visible_phases(self.config, self.settings, self.generated)[:, -tokens.shape[1] :]
        if visible.any():
            self.streamer.put(tokens[visible])

    def end(self) -> None:
        self.streamer.end()


class HiddenPhasesGenerationMixin(GenerationMixin):
    """`generate` gives the tokens of visible phases, unless asked for all; stands before a mixin that knows phases."""

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *args: Any,
        keep_hidden_phases: bool = False,
        **kwargs: Any,
    ) -> Any:
        """As in transformers; hidden phases are neither streamed nor part of the sequences.

        With `keep_hidden_phases` they are. What is given for each step, such as scores, is given for all of them.
        """
        if keep_hidden_phases:
            return super().generate(inputs, generation_config, *args, **kwargs)
        settings, _ = phase_settings(self, generation_config, kwargs)
        if kwargs.get("streamer") is not None:
            kwargs["streamer"] = VisibleStreamer(kwargs["streamer"], self.config, settings)
        output = super().generate(inputs, generation_config, *args, **kwargs)
        sequences = output if isinstance(output, torch.Tensor) else output.sequences
        prompt = kwargs.get("input_ids", inputs)
        prompt_length = prompt.shape[1] if prompt is not None else int(kwargs.get("inputs_embeds") is None)
        visible = in_visible_phases(self.config, settings, sequences[:, prompt_length:])
        visible = nn.functional.pad(visible, (prompt_length, 0), value=True)
        rows = [row[seen] for row, seen in zip(sequences, visible, strict=True)]
        shown = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding_token(settings))
        return with_sequences(output, shown)
