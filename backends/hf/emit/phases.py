"""Phases of generation: the components they take, and what they change in the head."""

from __future__ import annotations

from typing import Any

from eulerc.backends.hf.emit.emitter import Emitter
from eulerc.backends.hf.emit.facts import Model
from eulerc.backends.hf.emit.memories import memory_mixins
from eulerc.backends.hf.link import Request


def config_modes(model: Model) -> list[dict[str, Any]]:
    """The phases as the config holds them: what the code of this model reads."""
    phases = model.phases
    if phases is None:
        return []
    read = {"kv_share": phases.restart, "loss_weight": phases.weighted, "visible_to_user": phases.hidden}
    kept = ["name", "max_tokens", *(name for name, is_read in read.items() if is_read)]
    return [{name: mode[name] for name in kept} for mode in phases.modes]


MIXINS = {
    "HiddenPhasesGenerationMixin": "hidden_phases",
    "RestartedGenerationMixin": "restarted_phases",
    "PhasedGenerationMixin": "phased_generation",
}
"""What a model may generate with, and the components that hold it; one that hides phases stands before another."""


def generation_classes(model: Model) -> str:
    """What the causal language model generates with."""
    names = [*memory_mixins(model), *_mixins(model)]
    return ", ".join(f"{model.prefix}{name}" for name in names) or "GenerationMixin"


def _mixins(model: Model) -> list[str]:
    phases = model.phases
    if phases is None:
        return []
    hiding = ["HiddenPhasesGenerationMixin"] if phases.hidden else []
    return [*hiding, "RestartedGenerationMixin" if phases.restart else "PhasedGenerationMixin"]


def phase_requests(model: Model) -> list[Request]:
    """The components of phases: how they are generated, and how they are learned."""
    phases = model.phases
    if phases is None:
        return []
    by_token = phases.token is not None
    common: dict[str, Any] = {
        "facts": {"phases_by_token": by_token},
        "rename": {
            "PreTrainedConfig": f"{model.prefix}Config",
            "PreTrainedModel": f"{model.prefix}PreTrainedModel",
            **{name: f"{model.prefix}{name}" for name in _mixins(model)},
        },
    }
    processor = "PhaseLogitsProcessor"
    requests = [
        Request("phases_by_token" if by_token else "phases_by_budget", (processor,), **common),
        *(Request(MIXINS[name], (name,), slots={processor: processor}, **common) for name in reversed(_mixins(model))),
    ]
    learned = _learned(model)
    return [*requests, Request("phase_losses", learned, **common)] if learned else requests


def _learned(model: Model) -> tuple[str, ...]:
    """The functions that a loss over several phases takes."""
    phases = model.phases
    assert phases is not None
    names = (("phase_views", phases.restart), ("phase_weighted_loss", phases.weighted))
    needed = tuple(name for name, is_needed in names if is_needed)
    return (_finder(model), *needed) if needed else ()


def _finder(model: Model) -> str:
    """The function that tells the phases of a sequence apart."""
    assert model.phases is not None
    return "phases_by_count" if model.phases.token is None else "phases_by_transition"


def _phases(model: Model, ids: str) -> str:
    return f"phases = {_finder(model)}(self.config, {ids}{', labels' if _finder(model) == 'phases_by_count' else ''})"


def views(emitter: Emitter, model: Model) -> None:
    """The lines that lay out what each phase may see, before the model runs."""
    if model.phases is None or not model.phases.restart:
        return
    with emitter.indent("if labels is not None:"):
        with emitter.indent("if input_ids is None or position_ids is not None or past_key_values is not None:"):
            emitter.line('raise ValueError("Phases begin anew within a sequence: pass it whole, as input_ids")')
        emitter.line(_phases(model, "input_ids"))
        emitter.line("# What follows a phase that does not share is computed in a row of its own, without that phase")
        arguments = ["self.config", "phases", "input_ids", "labels", "attention_mask"]
        emitter.call("input_ids, attention_mask, predicting = phase_views", arguments)
        emitter.line("use_cache = False")
    emitter.line()


def predicting(emitter: Emitter, model: Model) -> None:
    """The lines that bring the states back to the order of the labels."""
    if model.phases is not None and model.phases.restart:
        with emitter.indent("if labels is not None:"):
            emitter.line("hidden_states = hidden_states[predicting]")


def weighted_loss(emitter: Emitter, model: Model) -> bool:
    """The loss whose labels weigh as their phases do; False where all weigh the same."""
    if model.phases is None or not model.phases.weighted:
        return False
    if not model.phases.restart:
        emitter.line(_phases(model, "labels if input_ids is None else input_ids"))
    emitter.line('weights = [mode["loss_weight"] for mode in self.config.execution_modes]')
    emitter.line("weights = torch.tensor(weights, device=phases.device)[phases]")
    emitter.line("loss = phase_weighted_loss(logits, labels, weights, **kwargs)")
    return True
