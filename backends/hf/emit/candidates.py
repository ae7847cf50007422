"""The method by which `generate` drafts, where a model has something to say about it."""

from __future__ import annotations

from eulerc.backends.hf.drafting import drafting_obstacle
from eulerc.backends.hf.emit.emitter import Emitter
from eulerc.backends.hf.emit.facts import Model

PREFIX = """
# Drafted tokens would take the type of the last one before them: here they find one of their own
if (token_type_ids := model_kwargs.get("token_type_ids")) is not None:
    drafts = generation_config.max_length - token_type_ids.shape[1]
    model_kwargs["token_type_ids"] = nn.functional.pad(token_type_ids, (0, drafts))
"""


def candidate_generator(emitter: Emitter, model: Model) -> None:
    """Drafts know where the prefix ends, and prediction modules that cannot draft say why."""
    obstacle = drafting_obstacle(model.module) if model.mtp is not None else None
    if obstacle is None and not model.has_prefix:
        return
    own = ", model_kwargs" if model.has_prefix else ""
    parameters = f"self, generation_config, *args{own}, **kwargs"
    with emitter.indent(f"def _get_candidate_generator({parameters}) -> CandidateGenerator:"):
        if obstacle is not None:
            with emitter.indent("if generation_config.use_mtp:"):
                emitter.line(f'raise ValueError("These modules are for training: {obstacle}")')
        if model.has_prefix:
            emitter.block(PREFIX)
        passed = ", model_kwargs=model_kwargs" if model.has_prefix else ""
        emitter.line(f"return super()._get_candidate_generator(generation_config, *args{passed}, **kwargs)")
    emitter.line()
