"""The adaptive integrator: against an independent solver, without a cache, and refused in words where it cannot run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "generic"))
from builds import ROOT, read, tokens
from transformers import AutoModelForCausalLM

from eulerc.api import lint
from eulerc.backends.hf.build import Options, build
from eulerc.backends.hf.components.adaptive_integrator import dormand_prince
from eulerc.backends.hf.components.integrators import runge_kutta_4
from eulerc.backends.hf.portability import verdicts
from eulerc.ir.stats import statistics
from tests.variants.building import PLAIN, block, spec

SPEC = spec(
    "adaptive",
    PLAIN + block("window: 5", name="local"),
    "  - template: block\n"
    "  - integrator: {type: ode_adaptive, steps: 50, tolerance: 1e-6, body: [{template: local}, {template: block}]}\n"
    "  - template: block\n"
    "  - integrator: {type: ode_adaptive, steps: 50, body: block, output: hidden}",
)


@pytest.fixture(scope="module")
def lm() -> Any:
    pytest.importorskip("torchdiffeq")
    loaded, module = read(SPEC)
    build(module, loaded, ROOT / "adaptive", Options(tokenizer=False))
    return AutoModelForCausalLM.from_pretrained(ROOT / "adaptive", trust_remote_code=True).eval()


def test_the_solver_follows_the_exponential() -> None:
    """x' = x from 1 ends at e, within the tolerance."""
    pytest.importorskip("torchdiffeq")
    one = torch.ones(3)
    found = dormand_prince(lambda state: 2 * state, one, 100, 1e-6)
    assert found.tolist() == pytest.approx([torch.e] * 3, rel=1e-5)


@torch.no_grad()
def test_a_tight_tolerance_and_many_steps_of_another_method_meet(lm: Any) -> None:
    """Runge and Kutta's method with 64 steps, over the layers of the built model."""
    ids = tokens(2, 11)
    base = lm.model
    found = []
    for tolerance in (1e-2, 1e-4, 1e-6):
        lm.config.integrator_tolerances = [tolerance, tolerance]
        found.append(base(ids).last_hidden_state)
    recorded: list[torch.Tensor] = []

    def exact(layers: Any, states: torch.Tensor, max_steps: int, tolerance: float) -> torch.Tensor:
        recorded.append(states)
        return runge_kutta_4(layers, states, 64)

    module = sys.modules[type(base).__module__]
    own = module.dormand_prince
    module.dormand_prince = exact
    try:
        wanted = base(ids).last_hidden_state
    finally:
        module.dormand_prince = own
    assert len(recorded) == 2
    errors = [(each - wanted).pow(2).mean().sqrt().item() for each in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


@torch.no_grad()
def test_it_generates_without_a_cache_and_refuses_one(lm: Any) -> None:
    ids = tokens(2, 9)
    assert lm.config.use_cache is False
    output = lm(ids)
    assert output.past_key_values is None
    made = lm.generate(ids, do_sample=False, max_new_tokens=4, pad_token_id=0)
    assert made.shape == (2, 13)
    with pytest.raises(ValueError, match="pass use_cache=False"):
        lm.generate(ids, use_cache=True, max_new_tokens=2, pad_token_id=0)


def test_gradients_reach_every_parameter(lm: Any) -> None:
    ids = tokens(2, 9)
    lm(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in lm.parameters())


def test_too_few_steps_are_refused(lm: Any) -> None:
    lm.config.integrator_steps = [1, 1]
    lm.config.integrator_tolerances = [1e-9, 1e-9]
    with pytest.raises(AssertionError, match="max_num_steps"):
        lm(tokens(2, 9))
    lm.config.integrator_steps = [50, 50]


def test_without_torchdiffeq_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(ImportError, match="torchdiffeq"):
        dormand_prince(lambda state: state, torch.ones(1), 1, 0.1)


def test_the_generated_file_tells_the_library_what_it_needs() -> None:
    from transformers.dynamic_module_utils import get_imports

    loaded, module = read(SPEC)
    build(module, loaded, ROOT / "adaptive_imports", Options(tokenizer=False))
    assert "torchdiffeq" in get_imports(next((ROOT / "adaptive_imports").glob("modeling_*.py")))


def test_numbers_and_verdicts_know_that_there_is_no_cache() -> None:
    _, module = read(SPEC)
    numbers = statistics(module)
    assert numbers["kv_cache"] == {"bytes_per_token": 0, "bytes_per_sequence": 0}
    assert numbers["layers"] == numbers["distinct_layers"] == 5
    answers = {engine: verdict.answer for engine, verdict in verdicts(module).items()}
    assert {answers[engine] for engine in ("vllm", "sglang", "torch_export", "static_cache")} == {"no"}


def test_a_tolerance_of_steps_of_one_size_is_refused() -> None:
    text = spec("refused", schedule="  - integrator: {type: ode_rk4, steps: 2, tolerance: 0.1, body: block}")
    assert [item.code for item in lint("spec.yaml", text.encode()).diagnostics] == ["E0736"]


def test_the_tolerance_stands_in_the_config() -> None:
    loaded, module = read(SPEC)
    build(module, loaded, ROOT / "adaptive_config", Options(tokenizer=False))
    config = json.loads((ROOT / "adaptive_config" / "config.json").read_text())
    assert config["integrator_tolerances"] == [1e-6, 1e-3]
    assert config["integrator_steps"] == [50, 50]
