"""What the template language means: each layer gets the values that its template, run and index say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eulerc.api import Linted, lint
from eulerc.backends.hf.build import Options, text_files
from eulerc.diagnostics.model import Diagnostic
from eulerc.ir.core import Module, Op
from eulerc.ir.numbers import schedule

HEAD = """\
schema_version: 1
model: {name: kestrel, d_model: 64, vocab_size: 99, max_seq_len: 64, n_heads: 4, intermediate_size: 96}
"""
TEMPLATES = """\
layer_templates:
  local:
    mixer: {type: attention, attention: {window: 8}}
    ffn: {type: gated_mlp}
  global:
    mixer: {type: attention}
    ffn: {type: gated_mlp}
"""
UNUSED = {"W0203"}
"""Where every layer sets its own width, the model's is reported to be idle."""


def linted(text: str) -> Linted:
    return lint("spec.yaml", (HEAD + text).encode())


def module(text: str) -> Module:
    result = linted(text)
    assert result.module is not None, result.diagnostics
    assert {item.code for item in result.diagnostics} <= UNUSED
    return result.module


def findings(text: str) -> list[str]:
    """The code and message of every finding."""
    return [f"{item.code} {item.message}" for item in linted(text).diagnostics]


def part(layer: Op, axis: str) -> Op:
    return next(op for op in layer.ops if op.name.startswith(f"{axis}."))


def values(model: Module, axis: str, key: str) -> list[Any]:
    """One attribute of one part, layer by layer."""
    return [part(layer, axis).get(key) for layer in schedule(model)]


def windows(text: str) -> list[Any]:
    return values(module(TEMPLATES + text), "mixer", "window")


# the schedule


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ("- {template: local, repeat: 2}\n- template: global", [8, 8, None]),
        ("- {pattern: [local, global], repeat: 2}", [8, None, 8, None]),
        ("- {pattern: [local, local, global], layers: 4}", [8, 8, None, 8]),
        ("- {pattern: [local, global], layers: 1}\n- template: global", [8, None]),
        ("- {pattern: [{template: local, repeat: 3}, global], layers: 6}", [8, 8, 8, None, 8, 8]),
        ("- {template: local, layers: 2}\n- template: global", [8, 8, None]),
    ],
)
def test_runs_and_patterns_lay_out_layers_in_order(runs: str, expected: list[int | None]) -> None:
    text = f"layer_schedule:\n{runs}\n"
    result = linted(TEMPLATES + text)
    assert result.module is not None
    assert values(result.module, "mixer", "window") == expected


# overrides


def test_lengths_of_runs_and_numbers_of_layers_may_be_expressions() -> None:
    text = """let: {rounds: 2}
layer_schedule:
- {pattern: [local, {template: global, repeat: "${let.rounds}"}], repeat: "${let.rounds}"}
- template: global
  layers: ${let.rounds + 1}
  override_at: [{layers: "${3 * let.rounds + 1}", attention: {window: "${layer.index}"}}]
"""
    assert windows(text) == [8, None, None] * 2 + [None, 7, None]


@pytest.mark.parametrize(
    ("run", "code"),
    [
        ("{template: local, repeat: '${layer.index}'}", "E0408"),
        ("{template: local, layers: '${let.none}'}", "E0403"),
        ("{template: local, repeat: '${0.5}'}", "E0203"),
        ("{template: local, override_at: [{layers: '${let.none}', attention: {window: 5}}]}", "E0403"),
    ],
)
def test_wrong_expressions_of_a_run_are_told_once(run: str, code: str) -> None:
    found = findings(f"{TEMPLATES}layer_schedule:\n- template: global\n- {run}\n")
    assert [finding.split()[0] for finding in found if finding.startswith("E")] == [code]


def test_an_override_replaces_keys_of_the_whole_run() -> None:
    text = "layer_schedule:\n- {template: local, repeat: 2, override: {attention: {window: 4}}}\n- template: global\n"
    assert windows(text) == [4, 4, None]


def test_an_override_of_single_layers_counts_them_over_the_whole_schedule() -> None:
    text = """layer_schedule:
- {template: global, repeat: 2}
- template: local
  repeat: 4
  override_at:
  - {layers: "2, 4-5", attention: {window: 4}}
  - {layers: 5, attention: {window: 2}}
"""
    assert windows(text) == [None, None, 4, 8, 4, 2]


def test_an_override_of_single_layers_stands_over_that_of_the_run() -> None:
    text = """layer_schedule:
- template: global
- template: local
  repeat: 3
  override: {mixer: {attention: {window: 5}}, ffn: {activation: gelu}}
  override_at: [{layers: 2, attention: {window: null}}]
"""
    model = module(TEMPLATES + text)
    assert values(model, "mixer", "window") == [None, 5, None, 5]
    assert values(model, "ffn", "activation") == ["silu", "gelu", "gelu", "gelu"]


@pytest.mark.parametrize("layers", ['"3"', "-1", '"1-"', '"2-1"', '""', "null", "[0]", "true", "1.0", '"0-99999"'])
def test_layers_outside_the_run_are_refused(layers: str) -> None:
    text = (
        f"layer_schedule:\n- {{template: local, repeat: 3, override_at: [{{layers: {layers}, norm: {{eps: 0.1}}}}]}}\n"
    )
    (found,) = [item for item in linted(TEMPLATES + text).diagnostics if item.severity == "error"]
    assert found.code == "E0506"
    assert found.help == 'write indices and ranges, like "0-2"'


def test_layers_that_come_out_equal_share_one_template() -> None:
    text = """layer_schedule:
- {template: local, repeat: 2, override: {attention: {window: 4}}}
- template: global
- {template: local, override: {attention: {window: 4}}}
"""
    assert len(module(TEMPLATES + text).all("template")) == 2


# let, params, layer.index


def test_let_names_numbers_for_all_blocks() -> None:
    text = """let: {width: 48, half: "${let.width // 2}"}
layer_templates:
  block:
    mixer: {type: attention}
    ffn: {type: gated_mlp, intermediate_size: "${let.half + model.d_model}"}
layer_schedule: [{template: block}]
"""
    assert values(module(text), "ffn", "intermediate_size") == [88]


PARAMETERS = """layer_templates:
  block:
    params: {width: "${model.d_model * 2}", window: null}
    mixer: {type: attention, attention: {window: "${params.window}"}}
    ffn: {type: gated_mlp, intermediate_size: "${params.width}"}
"""


def test_parameters_have_defaults_and_runs_give_values() -> None:
    text = """layer_schedule:
- template: block
- {template: block, with: {width: 32}}
- {template: block, with: {window: "${2 * 3}", width: 16}}
"""
    model = module(PARAMETERS + text)
    assert values(model, "ffn", "intermediate_size") == [128, 32, 16]
    assert values(model, "mixer", "window") == [None, None, 6]


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("with: {widht: 3}", ["E0507 template block has no parameter 'widht'"]),
        ("with: [1]", ["E0203 with [...] is not a mapping"]),
        ("with: {width: [1]}", ["E0203 width [...] is not a single value"]),
        ("with: {width: x}", ["E0203 intermediate_size 'x' is not an integer"]),
        ("with: {width: '${1 / 0}'}", ["E0405 division by zero"]),
        ("with: {width: '${let.nothing}'}", ["E0403 `let.nothing` is not defined"]),
    ],
)
def test_wrong_parameters_are_told_once(run: str, expected: list[str]) -> None:
    assert findings(f"{PARAMETERS}layer_schedule: [{{template: block, {run}}}]\n") == expected


def test_layer_index_gives_every_layer_its_own_value() -> None:
    text = """layer_templates:
  block:
    params: {base: "${layer.index * 16}"}
    mixer: {type: attention, attention: {window: "${4 if layer.index % 2 == 0 else null}"}}
    ffn: {type: gated_mlp, intermediate_size: "${params.base + 32}"}
layer_schedule:
- {template: block, repeat: 3}
- {template: block, override: {norm: {eps: "${0.1 / layer.index}"}}}
"""
    model = module(text)
    assert values(model, "ffn", "intermediate_size") == [32, 48, 64, 80]
    assert values(model, "mixer", "window") == [4, None, 4, None]
    assert values(model, "norm", "eps")[3] == 0.1 / 3


def test_errors_that_depend_on_the_layer_name_it() -> None:
    text = """layer_templates:
  block:
    mixer: {type: attention, attention: {n_kv_heads: "${layer.index + 1}"}}
    ffn: {type: gated_mlp}
layer_schedule: [{template: block, repeat: 4}]
"""
    (found,) = linted(text).diagnostics
    assert found.code == "E0312"
    assert found.notes == ("in template block, used by layer 2",)


def test_one_mistake_in_a_template_that_depends_on_the_layer_is_told_once() -> None:
    text = """layer_templates:
  block:
    mixer: {type: attention, attention: {n_kv_heads: 3, window: "${layer.index + 2}"}}
    ffn: {type: gated_mlp}
layer_schedule: [{template: block, repeat: 40}]
"""
    assert [item.code for item in linted(text).diagnostics] == ["E0312"]


# include


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    return tmp_path


def included(folder: Path, part: str, text: str) -> Linted:
    (folder / "parts" / "blocks.yaml").write_text(part, encoding="utf-8")
    (folder / "spec.yaml").write_text(f"{HEAD}include: parts/blocks.yaml\n{text}", encoding="utf-8")
    return lint(folder / "spec.yaml")


PART = """let: {width: 32}
layer_templates:
  shared:
    mixer: {type: attention}
    ffn: {type: gated_mlp, intermediate_size: "${let.width}"}
"""


def test_included_templates_and_numbers_stand_beside_ones_own(folder: Path) -> None:
    text = TEMPLATES + "layer_schedule: [{pattern: [shared, local, global]}]\n"
    result = included(folder, PART, text)
    assert result.module is not None and not result.diagnostics
    assert values(result.module, "ffn", "intermediate_size") == [32, 96, 96]


def test_a_spec_may_have_all_templates_from_elsewhere(folder: Path) -> None:
    result = included(folder, PART, "layer_schedule: [{template: shared, repeat: 2}]\n")
    assert result.module is not None and {item.code for item in result.diagnostics} <= UNUSED
    assert values(result.module, "ffn", "intermediate_size") == [32, 32]


def test_errors_in_an_included_template_stand_in_its_file(folder: Path) -> None:
    result = included(folder, PART.replace("gated_mlp", "gated"), "layer_schedule: [{template: shared}]\n")
    (found,) = result.diagnostics
    assert found.code == "E0205"
    assert found.primary.span.source.endswith("parts/blocks.yaml")
    assert found.primary.span.source in result.texts


# budgets and reserved keys

PLAIN = TEMPLATES + "layer_schedule: [{pattern: [local, global]}]\n"
PARAMETER_COUNT = 99 * 64 + 64 + 2 * (4 * 64 * 64 + 3 * 64 * 96 + 2 * 64)
STATE = 2 * 64 * 2
"""Bytes a token of one full-attention layer in bfloat16; the windowed one stops growing."""


def test_expectations_that_hold_are_silent() -> None:
    module(
        f"{PLAIN}expect: {{parameters: {PARAMETER_COUNT}, parameters_max: {PARAMETER_COUNT}, layers: 2, "
        f"active_parameters: {PARAMETER_COUNT}, kv_bytes_per_token_max: {STATE}}}\n"
    )


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        (
            f"parameters_max: {PARAMETER_COUNT - 1}",
            f"E0350 parameters: {PARAMETER_COUNT} is above {PARAMETER_COUNT - 1}",
        ),
        (f"kv_bytes_per_token_max: {STATE - 1}", f"E0350 kv bytes per token: {STATE} is above {STATE - 1}"),
        (f"parameters: {PARAMETER_COUNT + 1}", f"E0351 parameters: {PARAMETER_COUNT}, not {PARAMETER_COUNT + 1}"),
        ("layers: 3", "E0351 layers: 2, not 3"),
    ],
)
def test_a_broken_expectation_is_an_error_at_its_key(expectation: str, message: str) -> None:
    result = linted(f"{PLAIN}expect: {{{expectation}}}\n")
    (found,) = result.diagnostics
    assert f"{found.code} {found.message}" == message
    assert found.primary.span.line == (HEAD + PLAIN).count("\n") + 1
    assert not result.ok


def test_several_broken_expectations_are_all_told() -> None:
    assert (
        len(findings(f"{PLAIN}expect: {{layers: 3, parameters: 5, parameters_max: 6, flops_per_token_max: 7}}\n")) == 4
    )


@pytest.mark.parametrize(("share", "warned"), [(0.6, True), (0.75, False), (1.0, False), (1.25, False), (1.5, True)])
def test_a_size_far_from_its_target_is_a_warning(share: float, warned: bool) -> None:
    head = HEAD.replace("n_heads: 4", f"n_heads: 4, target_params: {round(PARAMETER_COUNT / share)}")
    result = lint("spec.yaml", (head + PLAIN).encode())
    assert [item.code for item in result.diagnostics] == (["W0352"] if warned else [])
    assert result.ok


def reserved(result: Linted) -> list[Diagnostic]:
    return [item for item in result.diagnostics if item.code == "W0202"]


def test_reserved_keys_pass_with_a_warning_and_reach_the_config() -> None:
    text = PLAIN.replace("ffn: {type: gated_mlp}", "ffn: {type: gated_mlp, vendor.acme.sparsity: 0.5}", 1)
    text += "experimental.router: {kind: [a, 1, null]}\nhead: {future.heads: 2}\n"
    result = linted(text)
    assert result.module is not None and result.loaded is not None
    assert len(reserved(result)) == len(result.diagnostics) == 3
    config = json.loads(text_files(result.module, result.loaded, Options())["config.json"])
    assert config["v1_extensions"] == {
        "experimental.router": {"kind": ["a", 1, None]},
        "head.future.heads": 2,
        "layer_templates.local.ffn.vendor.acme.sparsity": 0.5,
    }


@pytest.mark.parametrize("key", ["experimental", "experimentall.x", "vendor.acme", "Future.x", "vendor..x"])
def test_keys_that_only_look_reserved_are_unknown(key: str) -> None:
    assert [line.split()[0] for line in findings(f"{PLAIN}{key}: 1\n")] == ["E0202"]
