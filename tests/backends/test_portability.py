"""The portability verdict: of every preset, of features one by one, and of engines that run here."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from eulerc.api import lint, portability
from eulerc.backends.hf.portability import RULES, lines, verdicts
from eulerc.frontend.blocks import ENGINES
from eulerc.ir.core import Module, Op
from eulerc.ir.definition import Definition, definition, is_known
from eulerc.ir.numbers import schedule
from eulerc.presets.catalogue import catalogue
from tests.generic.builds import VARIANTS, model, read, tokens

EXPECTED = {
    "bloom-1b1": ("no", "no", "yes", "restricted", "yes"),
    "deepseek-v2": ("no", "no", "yes", "restricted", "yes"),
    "deepseek-v3": ("no", "no", "yes", "restricted", "yes"),
    "gemma-2-2b": ("yes", "no", "yes", "yes", "yes"),
    "gemma-3-270m": ("yes", "restricted", "yes", "no", "yes"),
    "gpt-oss-20b": ("no", "no", "yes", "no", "yes"),
    "gpt2": ("yes", "yes", "yes", "no", "yes"),
    "llama-3.2-1b": ("yes", "yes", "yes", "yes", "yes"),
    "mistral-7b-v0.1": ("yes", "no", "yes", "yes", "yes"),
    "mixtral-8x22b": ("yes", "no", "yes", "yes", "yes"),
    "olmo-2-1b": ("yes", "yes", "yes", "restricted", "yes"),
    "phi-2": ("yes", "no", "yes", "yes", "yes"),
    "qwen1.5-moe-a2.7b": ("no", "no", "yes", "yes", "yes"),
    "qwen3-235b-a22b": ("yes", "no", "yes", "yes", "yes"),
    "smollm2-135m": ("yes", "yes", "yes", "no", "yes"),
}
"""By preset, the answers for the engines in their order."""

SPEC = """
schema_version: 1
model: {name: tiny, d_model: 64, vocab_size: 128, max_seq_len: 64, n_heads: 4, dtype: float32}
embedding: {EMBEDDING}
layer_templates:
  block: {mixer: {type: attention, attention: {ATTENTION}}, ffn: {FFN}}
  plain: {mixer: {type: attention, attention: {LAST}}, ffn: {type: gated_mlp}}
layer_schedule: [{template: block, repeat: 2}, {template: plain}]
head: {HEAD}
expect: {EXPECT}
"""
PARTS = {"EMBEDDING": "", "ATTENTION": "", "LAST": "", "FFN": "type: gated_mlp", "HEAD": "", "EXPECT": ""}
MOE = "type: moe, moe: {experts: 8, top_k: 2, expert_size: 32"


def spec(**parts: str) -> str:
    text = SPEC
    for name, part in (PARTS | parts).items():
        text = text.replace(f"{{{name}}}", f"{{{part}}}")
    return text


def answers(module: Module) -> tuple[str, ...]:
    return tuple(verdict.answer for verdict in verdicts(module).values())


@pytest.mark.parametrize("name", EXPECTED)
def test_preset_has_its_verdict(name: str) -> None:
    module = lint(name).module
    assert module is not None
    assert answers(module) == EXPECTED[name]


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_what_is_not_yes_has_a_reason(name: str) -> None:
    module = lint(name).module
    assert module is not None
    for verdict in verdicts(module).values():
        assert (verdict.answer == "yes") != bool(verdict.reasons)
    assert list(portability(module)) == list(ENGINES)


@pytest.mark.parametrize(
    ("parts", "vllm", "sglang", "said"),
    [
        ({}, "yes", "yes", ""),
        ({"EMBEDDING": "positional: alibi"}, "no", "no", "ALiBi (layers 0-2)"),
        ({"ATTENTION": "window: 8"}, "yes", "restricted", "a sliding window (layers 0-1)"),
        ({"ATTENTION": "window: 8, window_mode: chunked"}, "no", "no", "attention within chunks (layers 0-1)"),
        (
            {"ATTENTION": "window: 8, window_mode: dilated, window_dilation: 2"},
            "no",
            "no",
            "a window with gaps (layers 0-1)",
        ),
        ({"ATTENTION": "softcap: 20.0"}, "no", "no", "soft caps that differ between layers"),
        ({"ATTENTION": "attention_sinks: {}"}, "restricted", "no", "attention sinks (layers 0-1)"),
        ({"ATTENTION": "v_head_dim: 8"}, "no", "no", "values of another width"),
        ({"ATTENTION": "qk_norm: heads"}, "no", "no", "weights for each head"),
        ({"ATTENTION": "qk_norm: head, output_gate: {}, clip_qkv: 4.0"}, "yes", "yes", ""),
        ({"ATTENTION": "n_kv_heads: 2"}, "no", "no", "key/value heads that differ"),
        ({"LAST": "kv: shared"}, "restricted", "restricted", "keys and values of an earlier layer (layer 2)"),
        ({"ATTENTION": "latent_dim: 16"}, "no", "no", "latent attention (layers 0-1)"),
        ({"FFN": f"{MOE}}}"}, "yes", "no", "a mixture of experts (layers 0-1)"),
        ({"FFN": f"{MOE}, normalize: false}}"}, "no", "no", "routing of its own kind"),
        ({"FFN": f"{MOE}, score_over: chosen}}"}, "yes", "no", "a mixture of experts"),
        ({"FFN": f"{MOE}, expert_bias: true}}"}, "no", "no", "experts with biases"),
        ({"FFN": f"{MOE}}}, activation: gelu"}, "no", "no", "experts other than gated SiLU"),
        ({"HEAD": "logit_divisor: 8.0"}, "no", "no", "a divisor in the head"),
        ({"HEAD": "logit_softcap: 30.0"}, "yes", "yes", ""),
        ({"HEAD": "logit_softcap: 30.0, logit_scale: 0.5"}, "no", "no", "a scale before a soft cap"),
        ({"HEAD": "bias: true"}, "yes", "no", "a bias on the logits"),
    ],
)
def test_feature_decides_for_the_serving_engines(parts: dict[str, str], vllm: str, sglang: str, said: str) -> None:
    found = verdicts(read(spec(**parts))[1])
    assert (found["vllm"].answer, found["sglang"].answer) == (vllm, sglang)
    assert said in "\n".join(lines(found))


def test_expected_engine_that_does_not_run_the_model_is_an_error() -> None:
    refused = lint("spec.yaml", spec(EMBEDDING="positional: alibi", EXPECT="portable: [vllm, static_cache]").encode())
    assert [item.code for item in refused.diagnostics] == ["E0630"]
    assert lint("spec.yaml", spec(EXPECT="portable: [vllm, sglang]").encode()).ok


def test_definition_that_says_nothing_gets_the_cautious_verdict() -> None:
    class Silent(Definition):
        name = "test.silent"

    assert Silent.traits(Op("test.silent")) == ("undeclared",)
    assert set(RULES["undeclared"].engines) == set(ENGINES)


def test_attribute_that_attention_does_not_know_gets_the_cautious_verdict() -> None:
    _, module = read(spec())
    op = next(op for op in schedule(module)[0].ops if op.name == "mixer.attention")
    assert "undeclared" not in definition(op.name).traits(op)
    assert "undeclared" in definition(op.name).traits(op.replacing(new_kind_of_mask="dilated"))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_op_declares_what_it_asks_of_engines(name: str) -> None:
    _, module = read(VARIANTS[name])
    for op in [op for template in schedule(module) for op in template.ops] + list(module.one("graph").ops):
        assert is_known(op.name)
        assert set(definition(op.name).traits(op)) <= set(RULES) - {"undeclared"}, op.name


def test_verdict_needs_no_torch() -> None:
    code = (
        "import sys; from eulerc.api import lint, portability; "
        "portability(lint('gemma-2-2b').module); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


EXECUTED = ("llama", "alibi", "two_windows", "mla_window", "mixtral", "dynamic_rope")


@pytest.mark.parametrize("name", EXECUTED)
@torch.no_grad()
def test_export_verdict_is_what_export_does(name: str) -> None:
    lm: Any = model(name)
    answer = verdicts(read(VARIANTS[name])[1])["torch_export"].answer
    arguments = {"input_ids": tokens(2, 12), "use_cache": False}
    if answer == "no":
        with pytest.raises(Exception, match="data-dependent"):
            torch.export.export(lm, (), arguments, strict=False)
        return
    program = torch.export.export(lm, (), arguments, strict=False)
    ids = tokens(2, 12, 7)
    found = program.module()(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(found, lm(input_ids=ids, use_cache=False).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "alibi", "two_windows", "mla_window", "mixtral"])
def test_static_cache_verdict_is_what_generate_does(name: str) -> None:
    lm: Any = model(name)
    assert verdicts(read(VARIANTS[name])[1])["static_cache"].answer == "yes"
    arguments = {"do_sample": False, "max_new_tokens": 8, "pad_token_id": 0}
    without = lm.generate(tokens(2, 9), use_cache=False, **arguments)
    assert torch.equal(lm.generate(tokens(2, 9), cache_implementation="static", **arguments), without)
