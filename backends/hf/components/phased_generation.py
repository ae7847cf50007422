"""Generation in phases that follow each other."""

from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation import GenerationMixin, LogitsProcessorList, StoppingCriteriaList

from eulerc.backends.hf.components.phase_settings import phase_settings
from eulerc.backends.hf.components.phases_by_token import PhaseLogitsProcessor


class PhasedGenerationMixin(GenerationMixin):
    """`generate` in the phases of `config.execution_modes`."""

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in transformers, with at most as many tokens as the phases may have."""
        settings, kwargs = phase_settings(self, generation_config, kwargs)
        # Without ids, generation begins with one bos token; behind embeddings it begins with none
        prompt = kwargs.get("input_ids", inputs)
        prompt_length = prompt.shape[1] if prompt is not None else int(kwargs.get("inputs_embeds") is None)
        phases = PhaseLogitsProcessor(self.config.execution_modes, settings, prompt_length)
        if settings.max_length is None or settings.max_new_tokens is not None:
            settings.max_new_tokens = min(settings.max_new_tokens or phases.most_tokens(), phases.most_tokens())
        processors = LogitsProcessorList([*(logits_processor or ()), phases])
        return super().generate(inputs, settings, processors, stopping_criteria, **kwargs)
