"""Under the policy layered_safe norms and routers are float32 in a model of 16 bits, in the file and at work."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from eulerc.api import build, lint
from eulerc.ir.numbers import tensor_plan
from tests.variants import VARIANTS

NAMES = (
    "layered_safe",
    "norms_by_sublayer",
    "offset_layer_norm",
    "special_norms",
    "depth_scaled",
    "deepseek_v3",
    "depth",
)


def spec_of(name: str, dtype: str, policy: str) -> str:
    """A variant in another dtype and policy."""
    text = VARIANTS[name].replace("compatibility: {dtype_policy: layered_safe}", "")
    text = text.replace("\n  dtype: float32", f"\n  dtype: {dtype}")
    return f"{text}\ncompatibility: {{dtype_policy: {policy}}}\n"


def built(folder: Path, name: str, dtype: str = "bfloat16", policy: str = "layered_safe") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "spec.yaml").write_text(spec_of(name, dtype, policy))
    build(folder / "spec.yaml", folder / "built", tokenizer=False)
    return folder / "built"


def loaded(directory: Path, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True, **options)


def kept(names: Iterable[str]) -> set[str]:
    """Norms and routers, by name."""
    return {
        name for name in names if name.endswith(("norm.weight", "norm.bias")) or ".gate." in name or ".router." in name
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", NAMES)
def test_norms_and_routers_are_float32_in_the_file_and_the_model(tmp_path: Path, name: str, dtype: str) -> None:
    directory = built(tmp_path, name, dtype)
    module = lint(tmp_path / "spec.yaml").module
    assert module is not None
    planned = {tensor.name: tensor.dtype for tensor in tensor_plan(module) if tensor.tied_to is None}
    precise = {key for key, found in planned.items() if found == "float32"}
    assert precise == kept(planned)
    with safe_open(directory / "model.safetensors", "pt") as file:
        written = {key: str(file.get_tensor(key).dtype) for key in file.keys()}  # noqa: SIM118
    assert written == {key: f"torch.{found}" for key, found in planned.items()}
    model = loaded(directory)
    assert {key: str(model.state_dict()[key].dtype) for key in planned} == {
        key: f"torch.{found}" for key, found in planned.items()
    }
    assert json.loads((directory / "config.json").read_text())["dtype"] == dtype


@pytest.mark.parametrize("name", NAMES)
def test_such_a_model_trains_and_decodes(tmp_path: Path, name: str) -> None:
    model = loaded(built(tmp_path, name))
    ids = torch.randint(3, 90, (2, 12), generator=torch.Generator().manual_seed(0))
    output = model(ids, labels=ids)
    assert output.logits.dtype == torch.bfloat16
    output.loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)
    model.eval()
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    assert model.generate(ids, **options).shape == (2, 18)


def moved_logits(directory: Path) -> float:
    """How far logits move when the weights of norms grow by less than bfloat16 can tell from 1."""
    ids = torch.arange(3, 15)[None]
    before = loaded(directory).eval()(ids).logits.float()
    path = directory / "model.safetensors"
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if "norm" in name and (tensor == 1).all():
            tensor += 2.0**-9
    save_file(tensors, path, metadata={"format": "pt"})
    return (loaded(directory).eval()(ids).logits.float() - before).abs().max().item()


def test_what_16_bits_would_lose_of_a_norms_weight_counts(tmp_path: Path) -> None:
    assert moved_logits(built(tmp_path / "uniform", "norms_by_sublayer", policy="uniform")) == 0.0
    assert moved_logits(built(tmp_path / "safe", "norms_by_sublayer")) > 0.0


def test_the_policy_holds_when_a_float32_model_is_loaded_in_16_bits(tmp_path: Path) -> None:
    directory = built(tmp_path, "layered_safe", dtype="float32")
    model = loaded(directory, dtype=torch.bfloat16)
    names = [name for name, _ in model.named_parameters()]
    assert {name for name, weight in model.named_parameters() if weight.dtype == torch.float32} == kept(names)
    fresh = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(directory, trust_remote_code=True), trust_remote_code=True
    )
    assert {weight.dtype for weight in fresh.parameters()} == {torch.float32}
