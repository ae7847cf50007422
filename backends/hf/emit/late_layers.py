"""Layers at the end that keep no keys and values: they run only for the tokens whose logits are asked for.

What such a layer makes of a token is read by that token alone.
"""

from __future__ import annotations

from eulerc.backends.hf.emit.emitter import Emitter
from eulerc.backends.hf.emit.facts import Model
from eulerc.backends.hf.emit.handed import keeps_nothing

PARAMETER = "logits_to_keep: int | torch.Tensor = 0"


def has_late_layers(model: Model) -> bool:
    """Whether the last layer takes the keys and values of an earlier one; modules that run in loops are not late."""
    return not model.shares_modules and not model.in_pieces and keeps_nothing(model.schedule[-1])


def first_late_layer(emitter: Emitter, model: Model) -> None:
    """Where they begin, for the model's constructor."""
    if has_late_layers(model):
        emitter.line("keeping = [layer_idx for layer_idx, mode in enumerate(config.kv_sharing_modes) if mode is None]")
        emitter.line("self.first_late_layer = keeping[-1] + 1")


def skipping_method(emitter: Emitter, model: Model) -> None:
    """The method that says whether tokens may be skipped."""
    if not has_late_layers(model):
        return
    emitter.line()
    emitter.block(
        '''
        def skips_tokens(
            self,
            logits_to_keep: int | torch.Tensor,
            query_length: int,
            masks: list[torch.Tensor | None],
            past_key_values: Cache | None,
            **kwargs,
        ) -> bool:
            """Whether the last layers, which keep no keys and values, may run for the tokens with logits alone."""
            recorded = ("output_hidden_states", "output_attentions", "output_router_logits")
            if any(kwargs.get(name) or getattr(self.config, name, False) for name in recorded):
                return False
            if not isinstance(logits_to_keep, int) or not 0 < logits_to_keep < query_length:
                return False
            # Only masks that are tensors have rows to take
            if any(mask is not None and (not isinstance(mask, torch.Tensor) or mask.dim() != 4) for mask in masks):
                return False
            # Without a mask the last token sees all that it is given: not where a cache has room to spare
            is_static = past_key_values is not None and past_key_values.is_compileable
            return all(mask is not None for mask in masks) or (logits_to_keep == 1 and not is_static)
        '''
    )


def skipping(emitter: Emitter, model: Model) -> None:
    """Asks before the loop whether tokens may be skipped."""
    if has_late_layers(model):
        masks = "[causal_mask]"
        if model.has_layer_types:
            labels = "self.mask_labels" if model.masks_differ else "self.config.layer_types"
            emitter.line(f"late_labels = {labels}[self.first_late_layer :]")
            masks = "[causal_mask_mapping[label] for label in late_labels]"
        arguments = ["logits_to_keep", "inputs_embeds.shape[1]", masks, "past_key_values", "**kwargs"]
        emitter.call("skips_tokens = self.skips_tokens", arguments)


def skip(emitter: Emitter, model: Model) -> None:
    """The step before the first late layer."""
    if not has_late_layers(model):
        return
    with emitter.indent("if skips_tokens and layer_idx == self.first_late_layer:"):
        emitter.line("hidden_states = hidden_states[:, -logits_to_keep:]")
        emitter.line("position_ids = position_ids[:, -logits_to_keep:]")
        if model.per_layer:
            emitter.line("per_layer_inputs = per_layer_inputs[:, -logits_to_keep:]")
        if model.hashes:
            emitter.line("input_ids = input_ids[:, -logits_to_keep:]")
        _tables(emitter, model)
        if model.has_layer_types:
            emitter.line("late_masks = {label: causal_mask_mapping[label] for label in late_labels}")
            with emitter.indent("causal_mask_mapping = causal_mask_mapping | {"):
                kept = "None if mask is None else mask[:, :, -logits_to_keep:]"
                emitter.line(f"label: {kept} for label, mask in late_masks.items()")
            emitter.line("}")
        else:
            emitter.line("causal_mask = None if causal_mask is None else causal_mask[:, :, -logits_to_keep:]")


def _tables(emitter: Emitter, model: Model) -> None:
    if len(model.ropes) > 1:
        with emitter.indent("position_embeddings = {"):
            emitter.line("label: tuple(table[:, -logits_to_keep:] for table in tables)")
            emitter.line("for label, tables in position_embeddings.items()")
        emitter.line("}")
    elif model.ropes:
        emitter.line("position_embeddings = tuple(table[:, -logits_to_keep:] for table in position_embeddings)")
