"""What every component must be so that a generated file can hold its text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig

import eulerc.backends.hf.components as components
from eulerc.backends.hf.components.attention import Attention
from eulerc.backends.hf.components.latent_attention import LatentAttention
from eulerc.backends.hf.components.rotary_embedding import RotaryEmbedding
from eulerc.backends.hf.components.sparse_moe import SparseMoe
from tests.components.harness import LENGTH, cached_config, causal_mask, component_config, hidden_states, perturb

FILES = sorted(path for folder in components.__path__ for path in Path(folder).glob("[a-z]*.py"))
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


@EVERY_FILE
def test_component_imports_only_what_a_generated_file_may(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name for node in imports for name in ([node.module] if isinstance(node, ast.ImportFrom) else aliases(node))
    }
    roots = {name.split(".")[0] for name in names}
    assert roots <= {"torch", "transformers", "copy", "math", "typing", "collections", "eulerc", "torchdiffeq"}
    assert all(name.startswith("eulerc.backends.hf.components.") for name in names if name.startswith("eulerc"))
    assert not any(name.startswith("transformers.models") for name in names)


@EVERY_FILE
def test_what_keeps_state_keeps_it_in_the_slot_that_a_repeated_module_is_told(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    own = {call for call in calls if call.startswith("past_key_values.") and "self.layer_idx" in call}
    assert {call.replace("self.layer_idx", "cache_slot") for call in own} <= calls


def aliases(node: ast.Import) -> list[str]:
    return [alias.name for alias in node.names]


@EVERY_FILE
def test_component_lines_leave_room_for_longer_names(path):
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 119


def test_no_two_components_define_the_same_name():
    """One file may hold them all. Forms of phases stand in each other's place, parts are named after their class."""
    defined = [
        node.name
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    assert {name for name in defined if defined.count(name) > 1} == {"PhaseLogitsProcessor", "Convolution"}


def test_there_are_components():
    assert {"attention", "latent_attention", "sparse_moe"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("module", [Attention, LatentAttention])
def test_attention_calls_one_interface_once(module):
    path = next(path for path in FILES if path.stem == module.__module__.rsplit(".", 1)[-1])
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert calls.count("ALL_ATTENTION_FUNCTIONS.get_interface") == 1
    assert calls.count("attention_interface") == 1


VALUE_DIMS = {Attention: None, LatentAttention: 6}


def attention_inputs(config: PreTrainedConfig) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    states = hidden_states(config)
    return states, RotaryEmbedding(config)(states, torch.arange(LENGTH)[None]), causal_mask(torch.float32)


def compiled(module: nn.Module) -> nn.Module:
    torch.compiler.reset()
    return torch.compile(module, fullgraph=True, backend="eager")


@pytest.mark.parametrize("rope", [True, False])
@pytest.mark.parametrize("module_class", [Attention, LatentAttention])
def test_attention_compiles_and_exports_as_one_graph(module_class, rope):
    config = cached_config(rope=rope, attn_implementation="sdpa", v_head_dim=VALUE_DIMS[module_class])
    module = perturb(module_class(config, layer_idx=0))
    inputs = attention_inputs(config)
    output = module(*inputs)[0]
    assert torch.equal(compiled(module)(*inputs)[0], output)
    assert torch.equal(torch.export.export(module, inputs).module()(*inputs)[0], output)


def test_mixture_of_experts_compiles_as_one_graph():
    config = component_config(
        router_bias=True,
        n_group=4,
        shared_experts=True,
        takes_intermediate_size=True,
        experts_implementation="grouped_mm",
    )
    module = perturb(SparseMoe(config, layer_idx=0))
    states = hidden_states(config)
    torch.testing.assert_close(compiled(module)(states), module(states))
