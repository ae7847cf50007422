"""Specialised generation in phases does what the generic mixins do under a config that holds the facts."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from eulerc.backends.hf.components import (
    hidden_phases,
    phased_generation,
    phases_by_budget,
    phases_by_token,
    restarted_phases,
)
from eulerc.backends.hf.emit.facts import Model
from eulerc.backends.hf.emit.file import COMPONENTS
from eulerc.backends.hf.emit.phases import generation_classes, phase_requests
from eulerc.backends.hf.link import link
from tests.components.harness import fill_slots
from tests.generic.builds import read
from tests.phases.building import BYTES, KINDS, Urge, modes, padded, prompts, text

PROCESSORS = {"token": phases_by_token, "budget": phases_by_budget}
MIXINS: dict[bool, tuple[ModuleType, str]] = {
    False: (phased_generation, "PhasedGenerationMixin"),
    True: (restarted_phases, "RestartedGenerationMixin"),
}


def specialised(kind: str, transition: str) -> tuple[type, ...]:
    """The mixins that are linked into the model of a spec."""
    model = Model(read(text(kind, transition))[1])
    linked = link(phase_requests(model), COMPONENTS)
    source = "\n\n".join((linked.imports.render(), *(item.text for item in linked.definitions)))
    assert "phases_by_token" not in source
    names: dict[str, Any] = {f"{model.prefix}Config": object, f"{model.prefix}PreTrainedModel": object}
    exec(source, names)
    return tuple(names[name] for name in generation_classes(model).split(", "))


def generic(kind: str, transition: str, monkeypatch: pytest.MonkeyPatch) -> tuple[type, ...]:
    """The importable mixins, their slots filled for the transition."""
    phases = modes(kind)
    restarts = any(not phase["kv_share"] for phase in phases[:-1])
    module, name = MIXINS[restarts]
    for user in (module, hidden_phases):
        fill_slots(monkeypatch, user, PhaseLogitsProcessor=vars(PROCESSORS[transition])["PhaseLogitsProcessor"])
    hides = any(not phase["visible_to_user"] for phase in phases)
    return (*((hidden_phases.HiddenPhasesGenerationMixin,) if hides else ()), getattr(module, name))


def generated(mixins: tuple[type, ...], kind: str, transition: str, **options: Any) -> torch.Tensor:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.4,
        eos_token_id=BYTES["eos"],
        pad_token_id=BYTES["pad"],
        execution_modes=modes(kind),
        phases_by_token=transition == "token",
        transition_token_id=BYTES["transition"],
    )
    lm = type("Phased", (*mixins, LlamaForCausalLM), {})(config).eval()
    return lm.generate(**padded(prompts(9, 4, 7, 1)), logits_processor=[Urge()], **options)


CASES = [(kind, transition) for kind in KINDS for transition in PROCESSORS if (kind, transition) != ("one", "token")]


@pytest.mark.parametrize(("kind", "transition"), CASES)
def test_specialised_generation_equals_the_generic_one(
    kind: str, transition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = (specialised(kind, transition), generic(kind, transition, monkeypatch))
    for options in ({"do_sample": False}, {"do_sample": True, "num_return_sequences": 2}, {"num_beams": 3}):
        found = [generated(mixins, kind, transition, **options) for mixins in pair]
        assert torch.equal(*found)
