"""Phases of generation that begin anew, without what an earlier one thought."""

from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig
from transformers.generation import GenerationMixin, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from eulerc.backends.hf.components.phase_settings import eos_tokens, padding_token, phase_settings, with_sequences
from eulerc.backends.hf.components.phases_by_token import PhaseLogitsProcessor


def phase_runs(modes: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """The first phase and the one behind the last of each run: a phase that does not share ends one."""
    ends = [number for number, mode in enumerate(modes[:-1], start=1) if not mode["kv_share"]]
    return list(zip([0, *ends], [*ends, len(modes)], strict=True))


def up_to(tokens: torch.Tensor, closing: list[int], times: int) -> tuple[torch.Tensor, bool]:
    """The tokens of a row up to one of `closing`, at its `times`-th time, and whether it is there."""
    is_closing = torch.isin(tokens, torch.tensor(closing, dtype=torch.long, device=tokens.device))
    places = is_closing.nonzero().flatten().tolist()
    return (tokens[: places[times - 1] + 1], True) if len(places) >= times else (tokens, False)


class TransitionCriteria(StoppingCriteria):
    """Stops a row behind its last transition of a run."""

    def __init__(self, transition_token_id: int, transitions: int, prompt_length: int) -> None:
        self.transition_token_id = transition_token_id
        self.transitions = transitions
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        generated = input_ids[:, self.prompt_length :]
        return (generated == self.transition_token_id).sum(dim=-1) >= self.transitions


class RunStreamer(BaseStreamer):
    """Hands on to a streamer the first prompt and the tokens of all runs."""

    def __init__(self, streamer: BaseStreamer) -> None:
        self.streamer = streamer
        self.expects_prompt = True
        self.has_prompt = False

    def put(self, value: torch.Tensor) -> None:
        if not (self.expects_prompt and self.has_prompt):
            self.streamer.put(value)
        self.expects_prompt, self.has_prompt = False, True

    def end(self) -> None:
        self.expects_prompt = True


class PhasedRows:
    """The rows of a batch on their way: what each began with, what it may see, what it has generated."""

    def __init__(self, config: PreTrainedConfig, settings: GenerationConfig, ids: torch.Tensor, mask: torch.Tensor):
        self.config = config
        self.settings = settings
        self.prompts = list(ids)
        self.contexts = [row[real] for row, real in zip(ids, mask.bool(), strict=True)]
        self.generated = [row[:0] for row in ids]
        self.running = list(range(len(ids)))

    def inputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the running rows may see, padded on the left, and its mask: (rows, length) each."""
        contexts = [self.contexts[row] for row in self.running]
        length = max(map(len, contexts))
        padding = padding_token(self.settings)
        ids = [nn.functional.pad(row, (length - len(row), 0), value=padding) for row in contexts]
        mask = [nn.functional.pad(torch.ones_like(row), (length - len(row), 0)) for row in contexts]
        return torch.stack(ids), torch.stack(mask)

    def copy(self, times: int) -> None:
        """Lets each sample or beam of a prompt go its own way."""
        self.prompts = [row for row in self.prompts for _ in range(times)]
        self.contexts = [row for row in self.contexts for _ in range(times)]
        self.generated = [row for row in self.generated for _ in range(times)]
        self.running = list(range(len(self.prompts)))

    def extend(self, tokens: torch.Tensor, run: tuple[int, int], limit: int) -> None:
        """Adds what the running rows have generated in a run of phases; one that a limit stops runs no more."""
        modes = self.config.execution_modes[slice(*run)]
        is_last = run[1] == len(self.config.execution_modes)
        running = []
        for row, new in zip(self.running, tokens, strict=True):
            new = new[: limit - len(self.generated[row])]
            new, has_ended = self.ended(new, modes, is_last)
            self.generated[row] = torch.cat((self.generated[row], new))
            if has_ended and not is_last and len(self.generated[row]) < limit:
                self.contexts[row] = torch.cat((self.shared_context(row, run), new[self.is_shared(new, modes)]))
                running.append(row)
        self.running = running

    def shared_context(self, row: int, run: tuple[int, int]) -> torch.Tensor:
        """What a run saw and the next one sees: not what opened a phase that does not share."""
        context = self.contexts[row]
        if self.config.phases_by_token:
            return context[:-1] if run[0] == run[1] - 1 > 0 else context
        else:
            return context

    def ended(self, new: torch.Tensor, modes: list[dict[str, Any]], is_last: bool) -> tuple[torch.Tensor, bool]:
        """The tokens of a row without what pads it, and whether they end the run."""
        if self.config.phases_by_token:
            closing = eos_tokens(self.settings) if is_last else [self.settings.transition_token_id]
            return up_to(new, closing, times=1 if is_last else len(modes))
        elif is_last:
            return up_to(new, eos_tokens(self.settings), times=1)
        else:
            return new, len(new) == sum(mode["max_tokens"] for mode in modes)

    def is_shared(self, new: torch.Tensor, modes: list[dict[str, Any]]) -> torch.Tensor:
        """Which tokens of an ended run the next one sees: not those of its last phase. (length) -> (length), bool"""
        phases = PhaseLogitsProcessor(modes, self.settings, prompt_length=0).phases_of(new[None])[0]
        if self.config.phases_by_token:
            # A transition token is seen as the first of the phase behind it
            return nn.functional.pad(phases[1:-1] < len(modes) - 1, (0, 1), value=True)
        else:
            return phases[:-1] < len(modes) - 1

    def sequences(self) -> torch.Tensor:
        """All that was generated behind the prompts, padded on the right: (rows, length)."""
        rows = [torch.cat(parts) for parts in zip(self.prompts, self.generated, strict=True)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding_token(self.settings))


class RestartedGenerationMixin(GenerationMixin):
    """`generate` in runs of phases, each behind what it may see: the prompt and the phases that share."""

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        *,
        streamer: BaseStreamer | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in transformers, a run of phases at a time, with at most as many tokens as the phases may have.

        A row that a limit stops does not enter the next run. What is given besides the sequences is the last run's.
        """
        settings, kwargs = phase_settings(self, generation_config, kwargs)
        ids: torch.Tensor | None = kwargs.pop("input_ids", inputs)
        if ids is None:
            raise ValueError("Phases that begin anew repeat the prompt: pass input_ids")
        mask = prompt_mask(settings, ids, kwargs.pop("attention_mask", None))
        limit = token_limit(self.config, settings, ids.shape[1])
        rows = PhasedRows(self.config, settings, ids, mask)
        runs = RunStreamer(streamer) if streamer is not None else None
        for first, behind in phase_runs(self.config.execution_modes):
            settings.max_new_tokens = max(limit - len(rows.generated[row]) for row in rows.running)
            processors = LogitsProcessorList(logits_processor or ())
            criteria = StoppingCriteriaList(stopping_criteria or ())
            bound_run(self.config, settings, (first, behind), ids.shape[1], processors, criteria)
            output: Any = super().generate(
                ids,
                settings,
                processors,
                criteria,
                attention_mask=mask,
                streamer=runs,
                **kwargs,
            )
            sequences = output if isinstance(output, torch.Tensor) else output.sequences
            if len(sequences) > len(rows.running):
                rows.copy(len(sequences) // len(rows.running))
                settings.num_return_sequences = 1
            rows.extend(sequences[:, ids.shape[1] :], (first, behind), limit)
            if not rows.running:
                break
            ids, mask = rows.inputs()
            # What belongs to the first prompt
            kwargs = {name: value for name, value in kwargs.items() if name not in ("position_ids", "past_key_values")}
        if streamer is not None:
            streamer.end()
        return with_sequences(output, rows.sequences())


def prompt_mask(settings: GenerationConfig, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mask given, else that of the tokens that are no padding, as `generate` tells them: (rows, length)."""
    if mask is not None:
        return mask
    padding = settings.pad_token_id
    if padding is None or padding in eos_tokens(settings):
        return torch.ones_like(ids)
    return (ids != padding).long()


def token_limit(config: PreTrainedConfig, settings: GenerationConfig, prompt_length: int) -> int:
    """The most new tokens that a row may have, in all runs together; `max_length` is done with."""
    limit = PhaseLogitsProcessor(config.execution_modes, settings, prompt_length).most_tokens()
    if settings.max_new_tokens is not None:
        limit = min(limit, settings.max_new_tokens)
    elif settings.max_length is not None:
        limit = min(limit, settings.max_length - prompt_length)
    settings.max_length = None
    return limit


def bound_run(
    config: PreTrainedConfig,
    settings: GenerationConfig,
    run: tuple[int, int],
    prompt_length: int,
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
) -> None:
    """Adds what ends the phases of a run, and the run."""
    modes = config.execution_modes
    first, behind = run
    processors.append(PhaseLogitsProcessor(modes[first:], settings, prompt_length))
    if config.phases_by_token:
        # The last run ends as sequences do
        if behind < len(modes):
            criteria.append(TransitionCriteria(settings.transition_token_id, behind - first, prompt_length))
    elif behind < len(modes):
        budget = sum(mode["max_tokens"] for mode in modes[first:behind])
        settings.max_new_tokens = min(settings.max_new_tokens, budget)
