"""A model trains as if the weights in scope were quantised, and its own weights stay exact."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from eulerc.api import build
from tests.variants.building import block, spec

MOE = "type: moe, moe: {experts: 4, top_k: 2, expert_size: 32, shared_experts: 1, expert_bias: true}"
KINDS = ["dtype: int8", "dtype: fp8", "dtype: fp4", "dtype: fp4, dequant_to: fp8", "dtype: int8, dequant_to: bf16"]
SCOPED = 'scope: ["*.mlp.experts", "*.q_proj"]'


def built(folder: Path, quantization: str) -> tuple[Any, ModuleType]:
    """A small model, and its `training.py`."""
    templates = block("qk_norm: {over: heads}, qkv_bias: true", MOE)
    rest = f"compatibility: {{quant_aware_training: {{{quantization}}}}}"
    (folder / "spec.yaml").write_text(spec("rounded", templates, rest=rest))
    build(folder / "spec.yaml", folder / "built", tokenizer=False)
    found = importlib.util.spec_from_file_location("emitted_quantization", folder / "built" / "training.py")
    assert found is not None and found.loader is not None
    training = importlib.util.module_from_spec(found)
    found.loader.exec_module(training)
    return AutoModelForCausalLM.from_pretrained(folder / "built", trust_remote_code=True), training


def tokens() -> torch.Tensor:
    return torch.randint(3, 90, (2, 12), generator=torch.Generator().manual_seed(0))


def in_scope(model: Any) -> list[str]:
    ends = ("experts.down_proj", "experts.gate_up_proj", "q_proj.weight")
    return [name for name, _ in model.named_parameters() if name.endswith(ends)]


@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_gradients_are_those_of_rounded_weights(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("torchao")
    model, training = built(tmp_path, f"{kind}, {SCOPED}")
    rounded = AutoModelForCausalLM.from_pretrained(tmp_path / "built", trust_remote_code=True)
    weights = dict(rounded.named_parameters())
    with torch.no_grad():
        for name in in_scope(rounded):
            weights[name].copy_(training.quantized(weights[name]))
    plain = model(tokens()).logits
    exact = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    handles = training.prepare_quantization(model)
    found, wanted = model(tokens(), labels=tokens()), rounded(tokens(), labels=tokens())
    torch.testing.assert_close(found.logits, wanted.logits)
    assert not torch.equal(found.logits, plain)
    found.loss.backward()
    wanted.loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad, msg=name)
    state = model.state_dict()
    assert state.keys() == exact.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in exact.items())

    for handle in handles:
        handle.remove()
    assert torch.equal(model(tokens()).logits, plain)


@pytest.mark.parametrize(("kind", "values", "error"), [("int8", 255, 0.005), ("fp8", 256, 0.04), ("fp4", 15, 0.25)])
def test_weights_take_the_values_that_the_dtype_has(tmp_path: Path, kind: str, values: int, error: float) -> None:
    pytest.importorskip("torchao")
    _, training = built(tmp_path, f"dtype: {kind}, {SCOPED}")
    weight = torch.randn(3, 4, 512, generator=torch.Generator().manual_seed(0))
    rounded = training.quantized(weight)
    groups = rounded.view(-1, 32) if kind == "fp4" else rounded.view(-1, 512)
    assert max(len(group.unique()) for group in groups) <= values
    largest = weight.view(groups.shape).abs().amax(dim=-1, keepdim=True)
    assert ((rounded - weight).view(groups.shape).abs() <= error * largest).all()


def test_a_failed_forward_pass_and_checkpointing_leave_the_weights_where_they_were(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    model, training = built(tmp_path, f"dtype: int8, {SCOPED}")
    training.prepare_quantization(model)
    wanted = model.train()(tokens()).logits
    with pytest.raises(RuntimeError):
        model.model.layers[0].self_attn.q_proj(torch.ones(3))
    assert isinstance(model.model.layers[0].self_attn.q_proj.weight, torch.nn.Parameter)
    model.gradient_checkpointing_enable()
    output = model(tokens(), labels=tokens())
    output.loss.backward()
    assert torch.equal(output.logits, wanted)
    assert model.model.layers[0].mlp.experts.down_proj.grad.abs().sum() > 0


def test_training_gives_a_model_that_rounding_hardly_changes(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    model, training = built(tmp_path, "dtype: fp4")
    optimizer, rows = training.optimizer(model), tokens() % 7 + 3
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    handles = training.prepare_quantization(model)
    for _ in range(60):
        model(rows, labels=rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if training.covered(name, training.QUANTIZED) and not training.covered(name, training.VECTORS):
                parameter.copy_(training.quantized(parameter) if parameter.dim() > 1 else parameter)
    assert model(rows, labels=rows).loss < 0.3


def test_without_torchao_an_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, training = built(tmp_path, f"dtype: int8, {SCOPED}")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchao"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchao", None)
    training.prepare_quantization(model)
    with pytest.raises(ImportError, match=r"quantised to int8 needs torchao: pip install torchao"):
        model(tokens())


def test_a_disabled_block_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        spec("exact", rest="compatibility: {quant_aware_training: {enabled: false, dtype: fp8}}")
    )
    build(tmp_path / "spec.yaml", tmp_path / "built", tokenizer=False)
    assert not (tmp_path / "built" / "training.py").exists()
