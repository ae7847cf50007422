"""The feed-forward networks equal the library's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MLP
from transformers.models.gemma2.configuration_gemma2 import Gemma2Config
from transformers.models.gemma2.modeling_gemma2 import Gemma2MLP
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.phi.configuration_phi import PhiConfig
from transformers.models.phi.modeling_phi import PhiMLP

from eulerc.backends.hf.components.gated_mlp import GatedMLP
from eulerc.backends.hf.components.mlp import MLP
from tests.components.harness import assert_float32_close, component_config, copy_weights, hidden_states, perturb

SIZES = {"hidden_size": 32, "intermediate_size": 48}


def assert_equal_outputs(ours: nn.Module, theirs: nn.Module, dtype: torch.dtype) -> None:
    states = hidden_states(component_config()).to(dtype)
    output, original_output = ours.eval().to(dtype)(states), theirs.to(dtype)(states)
    if dtype is torch.float32:
        assert_float32_close(output, original_output)
    else:
        assert torch.equal(output, original_output)


BIASED = {"gate_proj_bias": True, "up_proj_bias": True, "down_proj_bias": True}

GATED = {
    "llama": (LlamaMLP(LlamaConfig(**SIZES, mlp_bias=True)), BIASED),
    "gemma2": (Gemma2MLP(Gemma2Config(**SIZES)), {"hidden_act": "gelu_pytorch_tanh"}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", GATED)
def test_gated_mlp_equals_the_library(family, dtype):
    original, facts = GATED[family]
    ours = GatedMLP(component_config(**facts), layer_idx=0)
    copy_weights(perturb(original.float()), ours)
    assert_equal_outputs(ours, original, dtype)


@pytest.mark.parametrize("width", [None, 20])
def test_gated_mlp_takes_the_width_of_shared_experts(width):
    original = perturb(DeepseekV3MLP(DeepseekV3Config(**SIZES), intermediate_size=width))
    ours = GatedMLP(component_config(takes_intermediate_size=True), layer_idx=0, intermediate_size=width)
    copy_weights(original, ours)
    assert_equal_outputs(ours, original, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mlp_equals_phi(dtype):
    original = perturb(PhiMLP(PhiConfig(**SIZES)))
    ours = MLP(component_config(**BIASED, hidden_act="gelu_new"), layer_idx=0)
    copy_weights(original, ours, {"fc1": "up_proj", "fc2": "down_proj"})
    assert_equal_outputs(ours, original, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mlp_equals_gpt2(dtype):
    original = perturb(GPT2MLP(48, GPT2Config(n_embd=32, resid_pdrop=0.0)))
    ours = MLP(component_config(**BIASED, hidden_act="gelu_new"), layer_idx=0)
    ours.load_state_dict(
        {
            "up_proj.weight": original.c_fc.weight.T,
            "up_proj.bias": original.c_fc.bias,
            "down_proj.weight": original.c_proj.weight.T,
            "down_proj.bias": original.c_proj.bias,
        }
    )
    assert_equal_outputs(ours, original, dtype)


@pytest.mark.parametrize("module_class", [GatedMLP, MLP])
@pytest.mark.parametrize("bias", [False, True])
def test_mlp_has_biases_just_where_asked_and_trains(module_class, bias):
    config = component_config(**dict.fromkeys(BIASED, bias))
    module = perturb(module_class(config, layer_idx=1))
    assert any(name.endswith("bias") for name, _ in module.named_parameters()) == bias
    module(hidden_states(config)).square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in module.parameters())


@pytest.mark.parametrize("module_class", [GatedMLP, MLP])
def test_widths_may_differ_between_layers(module_class):
    config = component_config(per_layer_config={1: {"intermediate_size": 20}})
    assert [module_class(config, layer).up_proj.out_features for layer in (0, 1)] == [48, 20]
