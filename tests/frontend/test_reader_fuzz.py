"""Whatever the bytes, reading and loading give a tree or diagnostics, and nothing else."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from eulerc.diagnostics.formats import as_json, concise, github, sarif
from eulerc.diagnostics.model import Diagnostics
from eulerc.diagnostics.render import render
from eulerc.diagnostics.text import split_lines
from eulerc.frontend.compose import flatten, load
from eulerc.frontend.reader import read
from eulerc.frontend.tree import Mapping, Node, Scalar

SPEC = """\
schema_version: 1
let: {width: 64, heads: "${let.width // 16}"}
model: &model
  name: kestrel
  d_model: ${let.width * 2}
  n_heads: ${let.heads}   # a comment
  norm_eps: 1e-6
layer_templates:
  a: &a
    mixer: {type: attention, attention: {window: null, sinks: [1, 2.5, .5]}}
    ffn: {type: gated_mlp, activation: 'swiglu'}
  b:
    <<: *a
    norm: "rms\\u006eorm"
    text: >-
      folded
      text
layer_schedule:
- template: a
  repeat: ${2 if layer.index == 0 else 1}
- {template: b}
"""
PIECES = [
    "${",
    "}",
    ":",
    "- ",
    "\t",
    "\n",
    "  ",
    '"',
    "'",
    "[",
    "]",
    "{",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "---\n",
    "é",
    "|\n",
    "#",
]


@st.composite
def mutated_specs(draw: st.DrawFn) -> bytes:
    """The spec above with a few pieces deleted, doubled or put in."""
    text = SPEC
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        middle = draw(st.sampled_from([*PIECES, "", text[start:end] * 2]) | st.text(max_size=3))
        text = text[:start] + middle + text[end:]
    return text.encode("utf-8", errors="surrogatepass")


def scalars(node: Node) -> list[Scalar]:
    if isinstance(node, Scalar):
        return [node]
    children = [entry.value for entry in node] if isinstance(node, Mapping) else node.items
    return [scalar for child in children for scalar in scalars(child)]


def assert_all_is_said(data: bytes) -> None:
    """Loading gives a spec or an error, and every diagnostic can be shown in every format."""
    diagnostics = Diagnostics()
    spec = load(None, data, diagnostics, name="fuzz.yaml")
    sources = spec.sources if spec else {"fuzz.yaml": data.decode("utf-8", errors="replace")}
    assert spec is not None or diagnostics.has_errors
    items = diagnostics.sorted()
    assert render(items, sources, color=True).count("\x1b[0m") >= len(items)
    for text in (concise(items), as_json(items), github(items), sarif(items, "1"), flatten(spec) if spec else ""):
        assert "Traceback" not in text
    lines = split_lines(sources["fuzz.yaml"])
    for item in items:
        assert 1 <= item.primary.span.line <= len(lines)
        assert 1 <= item.primary.span.column <= len(lines[item.primary.span.line - 1]) + 1


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_diagnostics_inside_the_file(data: bytes) -> None:
    assert_all_is_said(data)


@given(st.text(alphabet=st.sampled_from("ab1: -\n\t#&*!{}[]\"'|>%@`,?~${}.<\\é日\u0301\r\u2028\x85"), max_size=60))
def test_yaml_shaped_text_gives_diagnostics_inside_the_file(text: str) -> None:
    assert_all_is_said(text.encode())


@settings(deadline=None)
@given(mutated_specs())
def test_mutated_specs_give_diagnostics_inside_the_file(data: bytes) -> None:
    assert_all_is_said(data)


@given(mutated_specs())
def test_spans_hold_the_text_as_written(data: bytes) -> None:
    node = read(data, "fuzz.yaml", Diagnostics())
    if node is None:
        return
    text = data.decode()
    lines = split_lines(text)
    for scalar in scalars(node):
        span = scalar.span
        if span.line == span.end_line:
            assert lines[span.line - 1][span.column - 1 : span.end_column - 1] == scalar.written


@given(mutated_specs())
def test_the_parser_in_pure_python_reads_the_same(data: bytes) -> None:
    fast, slow = Diagnostics(), Diagnostics()
    node = read(data, "fuzz.yaml", fast)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(yaml, "CSafeLoader")
        other = read(data, "fuzz.yaml", slow)
    if not fast.has_errors and not slow.has_errors:
        assert values(node) == values(other)


def values(node: Node | None) -> list[object]:
    return [scalar.value for scalar in scalars(node)] if node else []


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(20)),
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "? " * 100_000,
        "a: &a {x: 1}\n" + "".join(f"b{i}: &a [*a]\n" for i in range(10_000)),
        "- a\n" * 200_000,
        "a: 1\n" * 60_000,
        "1" * 4_000_000,
        "1." + "1" * 4_000_000,
        "x: ${" + "(" * 1_000_000,
        "x: ${" + "-" * 900 + "1}",
        "x: ${1" + "*9e300" * 150 + "}",
        "let:\n" + "".join(f"  a{i}: ${{let.a{i + 1}}}\n" for i in range(2000)) + "  a2000: 1\n",
        "let:\n" + "".join(f"  a{i}: ${{let.b{i}}}\n  b{i}: ${{let.a{i}}}\n" for i in range(1000)),
        "a: '" + "x\n" * 1_000_000,
        "&a " * 500_000,
        "!" * 1_000_000,
        "#" * 4_000_000,
        'a: "' + "\\" * 999_999,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_input_is_refused_or_read_quickly(text: str) -> None:
    begin = time.process_time()
    diagnostics = Diagnostics()
    spec = load(None, text.encode(), diagnostics)
    render(diagnostics.sorted()[:100], {"<stdin>": text})
    assert spec is not None or diagnostics.has_errors
    assert time.process_time() - begin < 10
