"""Hostile specs end in diagnostics, never in an exception; what lints clean compiles to Python that parses."""

from __future__ import annotations

import ast
import copy
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eulerc import reference
from eulerc.api import Linted, lint
from eulerc.backends.hf.build import Options, text_files
from eulerc.diagnostics.render import render
from eulerc.ir.fields import Block, Choice, Either, Flag, Integer, Kind, ListOf, Number
from tests.variants import VARIANTS

PARSED: dict[str, Any] = {name: yaml.safe_load(text) for name, text in VARIANTS.items()}
SECONDS = 10
"""Bound on one run: about a hundred times what a sound spec takes, for machines that do other things besides."""

HOSTILE_TEXT = (
    "",
    " ",
    "class",
    "None",
    "__init__",
    "self",
    'a"b',
    "it's",
    "two\nlines",
    'x"""\nimport os\n"""',
    "\\",
    "{0}",
    "%s",
    "${",
    "${}",
    "${1/0}",
    "${let.nothing}",
    "${129/2}",
    "${layer.index}",
    "${params.x}",
    "ｆｕｌｌ",
    "Ьаѕе",
    "\u202eright",
    "../up",
    "-",
    "0",
    "null",
    "x" * 5000,
)
HOSTILE_NUMBERS = (-1, 0, 1, 2, 3, 7, 2**31, 2**40, 2**63, 2**200, -(2**70), 0.0, -0.5, 1e-320, 1e-5, 4.9, 1e308)
NESTED = ([], {}, [[]], [None], [1, "a", {}], {"type": "x"}, {"a": {"b": [{"c": None}]}}, [{"template": "block"}])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(HOSTILE_NUMBERS),
    st.sampled_from(HOSTILE_TEXT),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
junk = st.one_of(scalars, st.sampled_from(NESTED), st.lists(scalars, max_size=3))
KEYS = reference.keys()
WORDS = sorted({word for spec in PARSED.values() for word in re.findall(r"[a-z_]\w*", json.dumps(spec))})
keys = st.one_of(st.sampled_from(WORDS), st.sampled_from(HOSTILE_TEXT[:24]), st.text(max_size=6))


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every node below the root."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in pairs:
        yield (*path, key)
        yield from places(child, (*path, key))


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def like(value: Any) -> st.SearchStrategy[Any]:
    """Other values of the same kind, most of them plausible."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.one_of(st.integers(0, 130), st.sampled_from(HOSTILE_NUMBERS))
    if isinstance(value, float):
        return st.one_of(st.floats(0, 100), st.sampled_from(HOSTILE_NUMBERS))
    if isinstance(value, str):
        return st.one_of(st.sampled_from(WORDS), st.sampled_from(HOSTILE_TEXT), st.text(max_size=8))
    return st.just(copy.deepcopy(value))


def of_kind(kind: Kind) -> st.SearchStrategy[Any]:
    """Values that a key takes, most of them plausible."""
    if isinstance(kind, Either):
        return st.one_of([of_kind(each) for each in kind.kinds])
    if isinstance(kind, ListOf):
        return st.lists(of_kind(kind.item), max_size=3)
    if isinstance(kind, Block):
        return st.fixed_dictionaries({name: of_kind(f.kind) for name, f in kind.fields.items() if f.required})
    if isinstance(kind, Choice):
        return st.sampled_from(sorted(kind.meanings))
    if isinstance(kind, Flag):
        return st.booleans()
    sizes = (1, 2, 4, 8, 16, 0.5, 64, *HOSTILE_NUMBERS)
    return st.sampled_from(sizes) if isinstance(kind, Integer | Number) else st.sampled_from(WORDS)


def put(spec: Any, path: str, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Sets one key of the language, in every template or run if it belongs to those."""
    top, *parents, key = path.split(".")
    templates = list((spec.get("layer_templates") or {}).values())
    blocks = {"layer_schedule[]": spec.get("layer_schedule") or []}
    blocks |= {axis: [body.setdefault(axis, {}) for body in templates] for axis in ("mixer", "ffn", "norm", "residual")}
    value = draw(of_kind(KEYS[path].kind))
    for block in blocks.get(top, [spec.setdefault(top, {})] if top not in blocks else []):
        for name in parents:
            block = block.setdefault(name, {})
        block[key] = copy.deepcopy(value)


def mutate(spec: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """One change in place: a value set, replaced, moved or nested, a key deleted, renamed or added."""
    found = list(places(spec))
    *parents, key = draw(st.sampled_from(found))
    parent = at(spec, tuple(parents))
    change = draw(
        st.sampled_from((*("nudge",) * 4, *("set",) * 6, "replace", "delete", "add", "rename", "move", "nest"))
    )
    if change == "set":
        put(spec, draw(st.sampled_from(sorted(KEYS))), draw)
    elif change == "nudge":
        parent[key] = draw(like(parent[key]))
    elif change == "replace":
        parent[key] = copy.deepcopy(draw(junk))
    elif change == "delete":
        del parent[key]
    elif change == "add" and isinstance(parent, dict):
        parent[draw(keys)] = copy.deepcopy(draw(junk))
    elif change == "rename" and isinstance(parent, dict):
        parent[draw(keys)] = parent.pop(key)
    elif change == "move":
        parent[key] = copy.deepcopy(at(spec, draw(st.sampled_from(found))))
    else:
        parent[key] = draw(st.sampled_from(([parent[key]], {"type": parent[key]}, [parent[key], parent[key]])))


@st.composite
def mutated(draw: Any) -> tuple[str, Any]:
    """The name of a variant, and its data after one to four changes."""
    name = draw(st.sampled_from(sorted(PARSED)))
    spec = copy.deepcopy(PARSED[name])
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 4)))):
        # A change that what an earlier one left has no place for is no change.
        with suppress(AttributeError, TypeError, IndexError, KeyError):
            mutate(spec, draw)
    return name, spec


def checked(text: str) -> Linted:
    """Lints in bounded time; what is sound must come out as Python that parses."""
    started = time.process_time()
    result = lint("spec.yaml", text.encode("utf-8", "surrogatepass"))
    assert render(result.diagnostics, result.texts) is not None
    assert time.process_time() - started < SECONDS
    assert result.ok == all(item.severity != "error" for item in result.diagnostics)
    if result.module is not None and result.loaded is not None:
        files = text_files(result.module, result.loaded, Options(tokenizer=False))
        for name, data in files.items():
            if name.endswith(".py"):
                compile(data.decode(), name, "exec")
    return result


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_mutated_specs_end_in_diagnostics_or_in_code_that_compiles(case: tuple[str, Any]) -> None:
    _, spec = case
    checked(json.dumps(spec))


UNLIKE = ("shape_changes", "phases", "branched", "per_layer", "mtp_windowed", "shared_kv_groups", "looped_mixers")
"""Variants whose layers are checked against each other and against the model."""


@pytest.mark.parametrize("name", UNLIKE)
def test_a_value_that_cannot_be_read_is_reported_and_nothing_that_needs_it_raises(name: str) -> None:
    for block in ("model", "embedding", "head", "training_hints"):
        for key in reference.BLOCKS[block]:
            spec = copy.deepcopy(PARSED[name])
            spec.setdefault(block, {})[key] = [{}]
            assert not checked(json.dumps(spec)).ok, (block, key)


BASE = """\
schema_version: 1
model: {name: kestrel, d_model: 64, vocab_size: 99, max_seq_len: 64, n_heads: 4, intermediate_size: 96}
layer_templates:
  block:
    mixer: {type: attention}
    ffn: {type: gated_mlp}
layer_schedule:
  - {template: block, repeat: 2}
"""


def errors(*changes: tuple[str, str]) -> list[str]:
    """The `CODE line:column message` of every error of the base spec after changes of its text."""
    text = BASE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    found = [item for item in checked(text).diagnostics if item.severity == "error"]
    return [f"{item.code} {item.primary.span.line}:{item.primary.span.column} {item.message}" for item in found]


def test_the_base_spec_is_sound() -> None:
    assert checked(BASE).diagnostics == ()


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("true", "true is not an integer"),
        ("4.9", "4.9 is not an integer"),
        ('"3"', "'3' is not an integer"),
        ('"${129/2}"', "64.5 is not an integer"),
        ("null", "null is not an integer"),
        ("[64]", "[...] is not an integer"),
        ("{}", "{...} is not an integer"),
        ("0", "0 is below 1"),
        ("-64", "-64 is below 1"),
        (str(2**40), f"{2**40} is above {2**24}"),
        ("1e3", "1000.0 is not an integer"),
    ],
)
def test_what_is_no_integer_is_said_once_with_its_value(written: str, shown: str) -> None:
    assert errors(("d_model: 64", f"d_model: {written}")) == [f"E0203 2:33 d_model {shown}"]


@pytest.mark.parametrize(
    "change",
    [
        ("vocab_size: 99", "vocab_size: 268435457"),
        ("max_seq_len: 64", f"max_seq_len: {2**63}"),
        ("intermediate_size: 96", f"intermediate_size: {2**70}"),
        ("intermediate_size: 96", "mlp_ratio: 1e308"),
        ("intermediate_size: 96", f"head_dim: {2**41}"),
        ("n_heads: 4", "n_heads: 10000000"),
        ("repeat: 2", "repeat: 1000000"),
        ("gated_mlp", f"moe, moe: {{experts: {2**50}, top_k: 1}}"),
    ],
)
def test_absurd_sizes_are_refused_at_their_place(change: tuple[str, str]) -> None:
    (found,) = errors(change)
    assert found.startswith("E0203")


@pytest.mark.parametrize(
    "run",
    [
        "pattern: [{template: block, repeat: 4096}, {template: block, repeat: 4096}], repeat: 4096",
        f"pattern: [{'{template: block, repeat: 4096}, ' * 500}block], repeat: 4096",
        "pattern: [block, block], repeat: 4096",
    ],
)
def test_runs_beyond_the_most_layers_are_refused_before_they_are_laid_out(run: str) -> None:
    assert errors(("template: block, repeat: 2", run)) == ["E0502 8:5 more than 4096 layers"]


def test_sizes_up_to_the_limits_are_counted_exactly() -> None:
    text = BASE.replace("d_model: 64", f"d_model: {2**24}").replace("repeat: 2", "repeat: 64")
    assert checked(text).ok


def test_alias_bombs_are_refused() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    result = checked("\n".join(lines) + "\n" + BASE)
    assert "E0115" in {item.code for item in result.diagnostics}


def test_all_errors_of_one_run_are_reported_and_none_follows_from_another() -> None:
    found = errors(
        ("d_model: 64", "d_model: '64'"),
        ("max_seq_len: 64", "num_hidden_layers: 2, max_seq_len: 64"),
        ("{type: attention}", "{type: attention, attention: {n_kv_heads: 3, windw: 4, window_mode: standard}}"),
        ("gated_mlp", "moe, moe: {experts: 4, top_k: 9}"),
        ("- {template", "- {template: blok}\n  - {template"),
    )
    assert [line.split()[0] for line in found] == ["E0203", "E0202", "E0312", "E0202", "E0327", "E0504"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("model: {", "modell: {"), "E0202"),
        (("schema_version", "schema_versoin"), "E0202"),
        (("n_heads: 4", "n_heads: four"), "E0203"),
        (("n_heads: 4", "num_attention_heads: 4"), "E0202"),
        (("n_heads: 4, ", ""), "E0201"),
        (("d_model: 64, ", ""), "E0201"),
        (("layer_templates:", "layer_templates: 3\nunused:"), "E0203"),
        (("layer_schedule:\n  - {template: block, repeat: 2}\n", ""), "E0201"),
        (("{type: attention}", "attention"), "E0203"),
        (("{type: attention}", "{type: attention, attention: 5}"), "E0203"),
        (("{type: attention}", "{type: atention}"), "E0205"),
        (("{type: attention}", "{}"), "E0201"),
        (("  - {template: block, repeat: 2}", "  - block"), "E0203"),
        (("template: block", "template: 5"), "E0203"),
        (("template: block", "tmplate: block"), "E0202"),
        (("repeat: 2", "repeat: 2, layers: 3"), "E0505"),
        (("template: block, ", ""), "E0503"),
        (("intermediate_size: 96", 'intermediate_size: "${1/0}"'), "E0405"),
        (("layer_schedule:", "embedding: {positional: alibii, position_offset: 2}\nlayer_schedule:"), "E0203"),
        (("layer_schedule:", "training_hints: {dropout: 2}\nlayer_schedule:"), "E0203"),
    ],
)
def test_one_mistake_is_one_error(change: tuple[str, str], code: str) -> None:
    found = [line for line in errors(change) if "unknown key 'unused'" not in line]
    assert [line.split()[0] for line in found] == [code]


def test_layers_behind_a_run_of_unknown_length_are_not_judged_by_their_numbers() -> None:
    runs = (
        "{template: block, repeat: x}\n  - {template: block, repeat: 2, override_at: [{layers: 9, norm: {eps: 0.1}}]}"
    )
    assert [line.split()[0] for line in errors(("{template: block, repeat: 2}", runs))] == ["E0203"]


@pytest.mark.parametrize(
    ("change", "help"),
    [
        (("d_model", "hidden_size"), "did you mean d_model?"),
        (("n_heads", "num_attention_heads"), "did you mean n_heads?"),
        (("max_seq_len", "max_position_embeddings"), "did you mean max_seq_len?"),
        (("vocab_size", "vocab_sise"), "did you mean vocab_size?"),
        (("type: attention", "type: attention, attention: {sliding_window: 4}"), "did you mean window?"),
        (("type: gated_mlp", "type: gated_mlp, hidden_act: gelu"), "did you mean activation?"),
        (
            ("n_heads: 4", "n_heads: 4, num_hidden_layers: 2"),
            "the number of layers is the sum of `repeat` over layer_schedule",
        ),
    ],
)
def test_unknown_keys_lead_to_ours(change: tuple[str, str], help: str) -> None:
    result = checked(BASE.replace(*change))
    assert [(item.code, item.help) for item in result.diagnostics if item.severity == "error"] == [("E0202", help)]


def test_templates_that_no_run_uses_are_checked_all_the_same() -> None:
    other = "  other:\n    mixer: {type: attention, attention: {n_kv_heads: 3}}\n    ffn: {type: gated_mlp}\n"
    result = checked(BASE.replace("layer_templates:\n", f"layer_templates:\n{other}"))
    assert [item.code for item in result.diagnostics] == ["E0312", "W0501"]
    assert result.diagnostics[0].notes == ("in template other, used by no layer",)


def test_errors_of_an_override_point_into_it_and_name_template_and_layers() -> None:
    override = "repeat: 3, override_at: [{layers: '1-2', ffn: {type: mlp, activation: swiglu, mlp_ratio: x}}]"
    result = checked(BASE.replace("repeat: 2", override))
    gated, wrong = result.diagnostics
    assert (gated.code, wrong.code) == ("E0324", "E0203")
    assert [item.primary.span.line for item in (gated, wrong)] == [8, 8]
    assert gated.notes == ("in template block, used by layers 1-2",)


def test_an_override_cannot_set_parameters() -> None:
    found = errors(("repeat: 2", "repeat: 2, override: {params: {x: 1}}"))
    assert found == ["E0202 8:45 unknown key 'params' in an override"]


NAMES = [
    'a"b',
    "it's",
    'x"""\nimport os\n"""',
    "two\nlines",
    "class",
    "import",
    "None",
    "self",
    "torch",
    "9lives",
    "a" * 200,
    "Ьаѕе-1",
    "\u202egnp.exe 1",
    "{name} %s \\x41",
    "a\\",
    "# x",
    "nn.Module",
]


@pytest.mark.parametrize("layout", ["single", "split"])
@pytest.mark.parametrize("name", NAMES)
def test_names_reach_generated_code_as_text_or_as_plain_identifiers_only(name: str, layout: str) -> None:
    spec = yaml.safe_load(BASE)
    spec["model"] |= {"name": name, "family_hint": name}
    spec["meta"] = {"source": name, "description": name, "license": name}
    spec["training_hints"] = {"lr_peak": 0.1}
    files = texts(spec, layout)
    spec["model"] |= {"name": "kestrel", "family_hint": None}
    assert shape(files) == shape(texts(spec, layout))
    assert json.loads(files["config.json"])["model_type"].isidentifier()


def texts(spec: Any, layout: str) -> dict[str, bytes]:
    result = checked(json.dumps(spec))
    assert result.module is not None and result.loaded is not None
    return text_files(result.module, result.loaded, Options(tokenizer=False, layout=layout))


def shape(files: dict[str, bytes]) -> list[list[str]]:
    """The kinds of syntax nodes of every Python file, in order: what there is besides names and strings."""
    sources = [data.decode() for name, data in sorted(files.items()) if name.endswith(".py")]
    return [[type(node).__name__ for node in ast.walk(ast.parse(source))] for source in sources]


@pytest.mark.parametrize("name", ["class", "a b", "x\ny", "Ьаѕе", "a__2", "", "${x}", "9", "self", 'a"', "a-b"])
def test_template_names_are_plain_or_refused(name: str) -> None:
    spec = yaml.safe_load(BASE)
    spec["layer_templates"] = {name: spec["layer_templates"]["block"]}
    spec["layer_schedule"] = [{"template": name, "repeat": 2}]
    result = checked(json.dumps(spec))
    assert result.ok == (name in ("class", "self"))
