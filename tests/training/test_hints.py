"""Training hints do what they say: how weights start, which parameters an optimizer trains and how."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from eulerc.api import build, lint
from eulerc.ir.numbers import tensor_plan
from tests.variants import VARIANTS
from tests.variants.building import block, spec

MOE = "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32, shared_experts: 1, shared_gate: true, expert_bias: true}"
TEMPLATES = block("qk_norm: {over: heads}, out_bias: true", MOE, name="routed") + block("attention_sinks: {}")
SCHEDULE = "  - {pattern: [routed, block], layers: 3}"


def built(folder: Path, hints: str, more: str = "", width: int = 64) -> Path:
    """The directory of a small model with these hints."""
    text = spec("hinted", TEMPLATES, SCHEDULE, rest=f"{more}\ntraining_hints: {{{hints}}}")
    return of_text(folder, text.replace("d_model: 64", f"d_model: {width}"))


def of_text(folder: Path, text: str) -> Path:
    """The directory of a spec."""
    (folder / "spec.yaml").write_text(text)
    build(folder / "spec.yaml", folder / "built")
    return folder / "built"


def training(directory: Path) -> ModuleType:
    """The emitted `training.py`, imported."""
    found = importlib.util.spec_from_file_location("emitted_training", directory / "training.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def loaded(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)


def options(directory: Path) -> dict[str, dict[str, Any]]:
    """By name of a parameter the options of its group; fails where one is in two groups or in none."""
    model = loaded(directory)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found: dict[str, dict[str, Any]] = {}
    for group in training(directory).parameter_groups(model):
        for parameter in group["params"]:
            assert names[parameter] not in found
            found[names[parameter]] = {key: value for key, value in group.items() if key != "params"}
    assert found.keys() == set(names.values())
    return found


HYBRID = 'optimizer: hybrid, optimizer_groups: {muon: ["model.layers.*_proj.weight", "*.experts.*_proj"], adamw: [%s]}'
REST = '"*norm", "*.gate", "*bias", "*.sinks", "*.shared_expert_gate", "*embed_tokens"'


@pytest.mark.parametrize(
    "hints", ["weight_decay: 0.1", "weight_decay: 0.1, optimizer: muon", "weight_decay: 0.1, router_lr_multiplier: 0.5"]
)
def test_matrices_decay_and_nothing_else_does(tmp_path: Path, hints: str) -> None:
    directory = built(tmp_path, hints)
    module = lint(tmp_path / "spec.yaml").module
    assert module is not None
    decays = {name: group["weight_decay"] == 0.1 for name, group in options(directory).items()}
    plan = {tensor.name: tensor.is_matrix for tensor in tensor_plan(module) if tensor.tied_to is None}
    assert decays == plan
    assert plan["model.layers.0.self_attn.q_norm.weight"] is plan["model.layers.0.mlp.experts.down_proj_bias"] is False
    assert plan["model.embed_tokens.weight"] is True


def test_routers_learn_at_a_rate_of_their_own(tmp_path: Path) -> None:
    found = options(built(tmp_path, "lr_peak: 0.01, router_lr_multiplier: 0.25"))
    rates = {name: group["lr"] for name, group in found.items()}
    assert {name for name, rate in rates.items() if rate == 0.0025} == {
        f"model.layers.{layer}.mlp.gate.weight" for layer in (0, 2)
    }
    assert set(rates.values()) == {0.01, 0.0025}


def test_a_rate_of_routers_leaves_a_model_without_routers_alone(tmp_path: Path) -> None:
    text = VARIANTS["llama"] + "\ntraining_hints: {lr_peak: 0.01, router_lr_multiplier: 0.25}\n"
    found = options(of_text(tmp_path, text))
    assert not [name for name, group in found.items() if group.get("lr", 0.01) != 0.01]


def test_routers_of_gates_learn_at_that_rate_too(tmp_path: Path) -> None:
    text = VARIANTS["depth_alibi"] + "\ntraining_hints: {lr_peak: 0.01, router_lr_multiplier: 0.25}\n"
    found = options(of_text(tmp_path, text))
    slow = {name.split(".", 3)[-1] for name, group in found.items() if group["lr"] == 0.0025}
    assert slow == {"depth_gate.router.proj.weight", "mlp.gate.weight"}


def test_muon_trains_the_matrices_of_layers(tmp_path: Path) -> None:
    found = {name for name, group in options(built(tmp_path, "optimizer: muon")).items() if group["use_muon"]}
    assert "model.layers.1.self_attn.o_proj.weight" in found
    assert "model.layers.0.mlp.experts.gate_up_proj" in found
    others = ("embed_tokens", "norm", "bias", "sinks", "shared_expert_gate")
    assert not [name for name in found if any(word in name for word in others)]


def test_a_hybrid_trains_by_globs(tmp_path: Path) -> None:
    found = options(built(tmp_path, HYBRID % REST))
    assert {name for name, group in found.items() if group["use_muon"]} == {
        name for name in found if name.endswith(("_proj", "_proj.weight"))
    }


@pytest.mark.parametrize("hints", ["optimizer: adamw", "optimizer: muon, muon: {stabilize_iters: 1}", HYBRID % REST])
def test_a_trainer_learns_with_the_optimizer(tmp_path: Path, hints: str) -> None:
    directory = built(tmp_path, f"lr_peak: 0.02, lr_floor_ratio: 0.1, router_lr_multiplier: 0.5, {hints}")
    model, module = loaded(directory), training(directory)
    row = torch.arange(48) % 7 + 3
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        max_steps=30,
        logging_steps=1,
        **module.training_arguments(),
    )
    optimizers = (module.optimizer(model), None)
    trainer = Trainer(model, arguments, train_dataset=[{"input_ids": row, "labels": row}] * 240, optimizers=optimizers)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] / 3, losses
    # The schedule takes the routers' rate down with the others
    last = {round(group["lr"] / optimizers[0].param_groups[0]["lr"], 6) for group in optimizers[0].param_groups}
    assert last == {1.0, 0.5}


def first_update(directory: Path) -> torch.Tensor:
    """How far one step of the hints' optimizer moves the logits, root mean square."""
    model = loaded(directory)
    optimizer = training(directory).optimizer(model)
    ids = torch.randint(3, 90, (4, 32), generator=torch.Generator().manual_seed(0))
    before = model(ids, labels=ids)
    before.loss.backward()
    optimizer.step()
    return (model(ids).logits - before.logits).pow(2).mean().sqrt()


@pytest.mark.parametrize(
    ("start", "least", "most"), [("mup_0.02, mup_base_width: 64", 0.5, 1.5), ("normal_0.02", 4.0, 8.0)]
)
def test_with_mup_a_step_moves_wide_models_as_far_as_narrow_ones(
    tmp_path: Path, start: str, least: float, most: float
) -> None:
    moved = []
    for width in (64, 512):
        (tmp_path / str(width)).mkdir()
        hints = f"lr_peak: 0.002, init: {start}"
        moved.append(first_update(built(tmp_path / str(width), hints, "head: {tie_weights: false}", width)))
    ratio = moved[1] / moved[0]
    assert least < ratio.item() < most


def test_the_library_is_told_of_adamw_and_not_of_muon(tmp_path: Path) -> None:
    assert training(built(tmp_path, "optimizer: adamw")).training_arguments() == {"optim": "adamw_torch"}
    (tmp_path / "muon").mkdir()
    assert training(built(tmp_path / "muon", "optimizer: muon")).training_arguments() == {}
