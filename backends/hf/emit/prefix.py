"""What a model with a prefix hands on in `generate`, and what its labels leave out."""

from __future__ import annotations

from eulerc.backends.hf.emit.emitter import Emitter
from eulerc.backends.hf.emit.facts import Model
from eulerc.backends.hf.emit.masks import PREFIX

STATIC_MASKS = f'''
@staticmethod
def create_masks_for_generate(
    config: CONFIG,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    past_key_values: Cache | None,
    position_ids: torch.Tensor,
    token_type_ids: torch.Tensor | None = None,
    **kwargs,
) -> torch.Tensor | dict[str, torch.Tensor | None] | None:
    """The masks that `generate` makes in advance where caches are static."""
    return create_masks_for_generate(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        past_key_values=past_key_values,
        position_ids=position_ids,
        block_sequence_ids={PREFIX},
    )
'''

GENERATION = """
def _update_model_kwargs_for_generation(self, outputs, model_kwargs, *args, num_new_tokens=1, **kwargs) -> dict:
    # What is generated is no prefix, and a cache has the prefix already
    token_type_ids = model_kwargs.pop("token_type_ids", None)
    model_kwargs = super()._update_model_kwargs_for_generation(
        outputs, model_kwargs, *args, num_new_tokens=num_new_tokens, **kwargs
    )
    if token_type_ids is not None and model_kwargs.get("past_key_values") is None:
        model_kwargs["token_type_ids"] = nn.functional.pad(token_type_ids, (0, num_new_tokens))
    return model_kwargs
"""

LABELS = """
if token_type_ids is not None:
    # Tokens of the prefix see the next one: there is nothing to learn from it
    labels = labels.masked_fill(token_type_ids == 1, -100)
"""


def prefix_imports(model: Model) -> tuple[str, ...]:
    """What makes static masks; a model whose layers make masks of their own has a method of that name instead."""
    if not model.has_prefix or model.masks_differ:
        return ()
    return ("from transformers.masking_utils import create_masks_for_generate",)


def generation_methods(emitter: Emitter, model: Model) -> None:
    """The methods by which `generate` carries the prefix on."""
    if not model.has_prefix:
        return
    if not model.masks_differ:
        emitter.block(STATIC_MASKS.replace("CONFIG", f"{model.prefix}Config"))
        emitter.line()
    emitter.block(GENERATION)
    emitter.line()


def prefix_labels(emitter: Emitter, model: Model) -> None:
    """Labels within the prefix count for nothing."""
    if model.has_prefix:
        emitter.block(LABELS)
