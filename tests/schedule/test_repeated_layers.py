"""Loops, shared blocks and integrators against their definitions, written out over the layers of the built model."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "generic"))
from builds import ROOT, close, code, directory, model, read, tokens
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from eulerc.api import lint
from eulerc.backends.hf.build import Options, build, text_files
from eulerc.ir.numbers import distinct_layers, module_indices
from eulerc.ir.stats import kv_bytes, statistics
from tests.variants import VARIANTS
from tests.variants.building import PLAIN, block, spec

Layers = Callable[[int, torch.Tensor], torch.Tensor]


def single_layers(lm: Any, ids: torch.Tensor) -> Layers:
    """What the layer of a number makes of states: its module alone, with the mask of its kind."""
    base, positions = lm.model, torch.arange(ids.shape[1])[None]
    states = base.embed_tokens(ids)
    options = {"config": lm.config, "inputs_embeds": states, "attention_mask": None, "past_key_values": None}
    masks = {"full_attention": create_causal_mask(**options)}
    if getattr(lm.config, "sliding_window", None) is not None:
        masks["sliding_attention"] = create_sliding_window_causal_mask(**options)
    tables = base.rotary_emb(states, positions)

    def run(module: int, states: torch.Tensor) -> torch.Tensor:
        layer = base.layers[module]
        windowed = getattr(layer.self_attn, "sliding_window", None) is not None
        mask = masks["sliding_attention" if windowed else "full_attention"]
        return layer(states, position_embeddings=tables, attention_mask=mask, position_ids=positions)

    return run


def logits(lm: Any, states: torch.Tensor) -> torch.Tensor:
    return lm.lm_head(lm.model.norm(states))


@torch.no_grad()
def test_a_loop_runs_its_layers_again_with_the_same_weights() -> None:
    """`looped` is local, then twice (block, twice (local, memory)), then memory: twelve layers of four modules."""
    lm, ids = model("looped"), tokens(2, 13)
    assert len(lm.model.layers) == 4
    run, states = single_layers(lm, ids), lm.model.embed_tokens(ids)
    for module in (0, 1, 2, 3, 2, 3, 1, 2, 3, 2, 3, 3):
        states = run(module, states)
    assert close(lm(ids, use_cache=False).logits, logits(lm, states))


@torch.no_grad()
def test_integrators_follow_eulers_and_runge_kuttas_formulas() -> None:
    """Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, (II.1.1) and table II.1.2 (left)."""
    lm, ids = model("integrated"), tokens(2, 13)
    run, x = single_layers(lm, ids), lm.model.embed_tokens(ids)
    h = torch.tensor(0.5)

    def slope(modules: tuple[int, ...], x: torch.Tensor) -> torch.Tensor:
        y = x
        for module in modules:
            y = run(module, y)
        return y - x

    x = run(0, x)
    for _ in range(2):
        x = x + h * slope((1, 2), x)
    x = run(2, x)
    start = x
    for _ in range(2):
        k = [slope((3,), x)]
        for a in (0.5, 0.5, 1.0):
            k.append(slope((3,), x + h * a * k[-1]))
        x = x + h * sum(b * each for b, each in zip((1 / 6, 1 / 3, 1 / 3, 1 / 6), k, strict=True))
    assert close(lm(ids, use_cache=False).logits, logits(lm, start + x))


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_integrators_reach_the_order_of_their_method(steps: int) -> None:
    """x' = -x from 1: Euler gives (1 - h)^n, Runge-Kutta the Taylor polynomial of degree 4 in -h, to the power n."""
    from eulerc.backends.hf.components.integrators import euler, runge_kutta_4

    one = torch.ones(1, dtype=torch.float64)
    h = 1 / steps
    decay = torch.zeros_like
    assert euler(decay, one, steps).item() == pytest.approx((1 - h) ** steps, rel=1e-14)
    taylor = 1 - h + h**2 / 2 - h**3 / 6 + h**4 / 24
    assert runge_kutta_4(decay, one, steps).item() == pytest.approx(taylor**steps, rel=1e-14)


@pytest.mark.parametrize("name", ["looped", "integrated"])
@torch.no_grad()
def test_every_run_of_a_layer_has_a_cache_slot_and_a_recorded_state(name: str) -> None:
    _, module = read(VARIANTS[name])
    lm, ids = model(name), tokens(2, 9)
    output = lm(ids, use_cache=True, output_hidden_states=True, output_attentions=True)
    count = statistics(module)["layers"]
    assert lm.config.num_hidden_layers == count == len(lm.config.layer_types) == len(output.past_key_values.layers)
    assert len(output.hidden_states) == count + 1
    assert len(output.attentions) == count
    assert all(layer.is_initialized for layer in output.past_key_values.layers)


def test_parameters_count_once_and_work_and_cache_count_with_every_run() -> None:
    loop = "  - loop: {times: 5, body: [{template: block, repeat: 2}]}"
    numbers = {
        name: statistics(read(spec("counted", schedule=schedule))[1])
        for name, schedule in (("looped", loop), ("once", "  - {template: block, repeat: 2}"))
    }
    looped, once = numbers["looped"], numbers["once"]
    assert looped["parameters"] == once["parameters"]
    assert (looped["layers"], looped["distinct_layers"]) == (10, 2)
    assert looped["kv_cache"]["bytes_per_token"] == 5 * once["kv_cache"]["bytes_per_token"]
    head = 2 * 64 * 99
    forward = [each["flops_per_token"]["unmasked"] - head for each in (looped, once)]
    assert forward[0] == 5 * forward[1]


def test_rk4_with_four_steps_is_sixteen_slots() -> None:
    text = spec("slots", schedule="  - integrator: {type: ode_rk4, steps: 4, body: block}")
    _, module = read(text)
    _, single = read(spec("slots", schedule="  - template: block"))
    assert module_indices(module) == [0] * 16
    assert len(distinct_layers(module)) == 1
    assert kv_bytes(module, 10) == 16 * kv_bytes(single, 10)


def _files(schedule: str) -> dict[str, bytes]:
    loaded, module = read(spec("same", schedule=schedule))
    files = text_files(module, loaded, Options(tokenizer=False))
    return {name: data for name, data in files.items() if name not in ("spec.yaml", "README.md")}


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("  - integrator: {type: discrete, steps: 3, body: block}", "  - {template: block, repeat: 3}"),
        ("  - loop: {times: 1, body: [{template: block, repeat: 3}]}", "  - {template: block, repeat: 3}"),
        ("  - {template: block, repeat: 4, share: all}", "  - loop: {times: 4, body: [{template: block}]}"),
    ],
)
def test_two_ways_to_say_one_model_give_the_same_files(short: str, long: str) -> None:
    assert _files(short) == _files(long)


@torch.no_grad()
def test_a_discrete_body_beside_the_stream_is_added_to_it() -> None:
    text = spec("beside", schedule="  - integrator: {type: discrete, steps: 3, body: block, output: hidden}")
    loaded, module = read(text)
    build(module, loaded, ROOT / "beside", Options(tokenizer=False))
    lm = AutoModelForCausalLM.from_pretrained(ROOT / "beside", trust_remote_code=True, attn_implementation="eager")
    ids = tokens(2, 9)
    run, start = single_layers(lm, ids), lm.model.embed_tokens(ids)
    states = start
    for number in range(3):
        states = run(number, states)
    assert close(lm(ids, use_cache=False).logits, logits(lm, start + states))


def edited(name: str, target: Path, **changes: Any) -> Any:
    """A fresh model of a variant's code and its config with changes; None takes a field out."""
    config = json.loads((directory(name) / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if key not in changes or value is not None}
    (target / "config.json").write_text(json.dumps(kept))
    for path in directory(name).glob("*.py"):
        (target / path.name).write_bytes(path.read_bytes())
    return AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(target, trust_remote_code=True), trust_remote_code=True
    )


LISTS = {"module_indices": None, "block_types": None, "layer_types": None}


@torch.no_grad()
def test_steps_and_rounds_may_be_edited_in_the_config(tmp_path: Path) -> None:
    lm = edited("integrated", tmp_path, integrator_steps=[3, 1], num_hidden_layers=12, **LISTS).eval()
    assert lm.config.module_indices == [0, *[1, 2] * 3, 2, *[3] * 4]
    ids = tokens(2, 9)
    options = {"do_sample": False, "max_new_tokens": 5, "pad_token_id": 0}
    assert torch.equal(lm.generate(ids, **options), lm.generate(ids, use_cache=False, **options))
    longer = edited("looped", tmp_path, num_hidden_layers=24, **LISTS)
    assert longer.config.module_indices == [0, 1, 2, 3, 2, 3, 1, 2, 3, 2, 3, 3] * 2


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("looped", {"num_hidden_layers": 13, "block_types": None, "layer_types": None}, "module_indices"),
        ("integrated", {"integrator_steps": [3, 1]}, "num_hidden_layers is 14, but 12 layers run"),
        ("integrated", {"num_hidden_layers": 8, **LISTS}, "num_hidden_layers is 8, but 14 layers run"),
    ],
)
def test_numbers_that_do_not_agree_are_refused(name: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=words):
        edited(name, tmp_path, **changes)


def test_routers_that_differ_are_balanced_for_every_run() -> None:
    """The losses pair every recorded logit with the router that made it, in the order in which layers run."""
    templates = "".join(
        block(ffn=f"type: moe, moe: {{experts: {experts}, top_k: {top_k}, expert_size: 32}}", name=name)
        for name, experts, top_k in (("small", 4, 1), ("large", 8, 3))
    )
    loop = "  - loop: {times: 2, body: [{pattern: [small, large]}]}\n  - template: small"
    plain = "  - {pattern: [small, large], repeat: 2}\n  - template: small"
    models = {}
    for name, schedule in (("balanced_loop", loop), ("balanced_plain", plain)):
        loaded, module = read(spec(name, templates, schedule))
        build(module, loaded, ROOT / name, Options(tokenizer=False))
        models[name] = AutoModelForCausalLM.from_pretrained(ROOT / name, trust_remote_code=True)
    looped, unrolled = models["balanced_loop"], models["balanced_plain"]
    state = looped.state_dict()
    source = {
        key: key if not key.startswith("model.layers.") else _renumbered(key, looped.config.module_indices)
        for key in unrolled.state_dict()
    }
    unrolled.load_state_dict({key: state[source[key]] for key in source})
    ids = tokens(2, 9)
    ours, theirs = (each(ids, labels=ids) for each in (looped, unrolled))
    assert close(ours.aux_loss, theirs.aux_loss)
    assert close(ours.loss, theirs.loss)


def _renumbered(key: str, modules: list[int]) -> str:
    start, number, rest = key.removeprefix("model.").split(".", 2)
    return f"model.{start}.{modules[int(number)]}.{rest}"


def findings(schedule: str, templates: str = PLAIN) -> Counter[str]:
    result = lint("spec.yaml", spec("refused", templates, schedule).encode())
    return Counter(item.code for item in result.diagnostics if item.severity != "note")


OTHER = PLAIN + PLAIN.replace("block", "other").replace("gated_mlp", "mlp")


@pytest.mark.parametrize(
    ("schedule", "codes"),
    [
        ("  - {loop: {times: 2, body: [{template: block}]}, repeat: 2}", {"E0720": 1}),
        ("  - {integrator: {type: ode_euler, steps: 2, body: block}, template: block}", {"E0720": 1}),
        ("  - loop: {times: 2, body: [{integrator: {type: ode_euler, steps: 2, body: block}}]}", {"E0721": 1}),
        ("  - {pattern: [{template: block, share: a}, {template: other, share: a}]}", {"E0722": 1}),
        (
            "  - {template: block, share: a}\n  - {template: block, share: a, override: {norm: {eps: 0.1}}}\n"
            "  - template: other",
            {"E0722": 1},
        ),
        ("  - {template: block, share: a}\n  - template: other", {"W0723": 1}),
        ("  - loop: {times: 0, body: [{template: block}]}", {"E0203": 1}),
        ("  - loop: {times: 2, body: []}", {"E0203": 1}),
        ("  - loop: {times: 2}", {"E0201": 1}),
        ("  - loop: {times: 2, body: [{template: blok}]}", {"E0504": 1}),
        ("  - loop: {times: 2, body: [block]}", {"E0203": 1}),
        ("  - loop: {times: 4096, body: [{template: block, repeat: 4096}]}", {"E0502": 1}),
        ("  - loop: {times: 4096, body: [{loop: {times: 4096, body: [{template: block}]}}]}", {"E0502": 1}),
        ("  - integrator: {type: ode_rk4, steps: 2000, body: block}", {"E0502": 1}),
        ("  - integrator: {type: ode_rk4, steps: 2, body: blok}", {"E0504": 1}),
        ("  - integrator: {type: ode_rk5, steps: 2, body: block}", {"E0203": 1}),
    ],
)
def test_schedules_that_say_nothing_sensible_are_refused(schedule: str, codes: dict[str, int]) -> None:
    found = findings(schedule, OTHER)
    del found["W0501"]
    assert found == codes


def test_expressions_in_a_body_know_the_first_run_of_their_layer() -> None:
    schedule = (
        "  - {template: block, repeat: 3}\n"
        "  - loop:\n      times: '${1 + 1}'\n      body:\n"
        "        - {template: block, repeat: 2, override: {norm: {eps: '${0.1 * layer.index / layer.count}'}}}"
    )
    _, module = read(spec("expressions", schedule=schedule), stage="layers")
    eps = [op.ops[0]["eps"] for op in distinct_layers(module)]
    assert eps[3:] == [pytest.approx(0.1 * 3 / 7), pytest.approx(0.1 * 4 / 7)]
    assert module_indices(module) == [0, 1, 2, 3, 4, 3, 4]


def test_only_generated_files_that_need_it_know_of_slots() -> None:
    assert "cache_slot" not in Path(code("llama").__file__).read_text()
    assert "cache_slot" in Path(code("looped").__file__).read_text()
