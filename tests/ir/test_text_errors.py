"""Texts that say nothing: every error has its code and place, and no text whatever raises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eulerc.diagnostics.model import Diagnostic, Diagnostics
from eulerc.ir.core import Module
from eulerc.ir.parser import parse_module
from eulerc.ir.printer import print_module
from eulerc.ir.text import MAX_CHARACTERS, MAX_DEPTH, MAX_ERRORS
from eulerc.ir.verify import verify
from tests.strategies_ir import modules

PAGES = [
    page
    for page in sorted((Path(__file__).parents[2] / "docs" / "errors").glob("E07*.md"))
    if "```eir" in page.read_text(encoding="utf-8")
]
KNOWN_OPS = frozenset({"model", "template", "graph", "yield", "embed", "norm.rms", "add", "stack", "rope", "op"})

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def findings(text: str, known_ops: frozenset[str] | None = None) -> tuple[Diagnostic, ...]:
    diagnostics = Diagnostics()
    module = parse_module(text, "x.eir", diagnostics, known_ops)
    assert (module is None) == bool(diagnostics.items)
    assert all(item.severity == "error" for item in diagnostics.items)
    return diagnostics.sorted()


def in_model(body: str) -> str:
    """A model with `body` from its third line on."""
    return f"euler.ir v1 arch\nmodel @k {{\n{body}\n}}\n"


def brief(text: str) -> list[tuple[str, int, int]]:
    return [(item.code, item.primary.span.line, item.primary.span.column) for item in findings(text)]


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "message"),
    [
        ("", "E0701", 1, 1, "not a textual IR"),
        ("model: {name: x}", "E0701", 1, 1, "not a textual IR"),
        ("# comment\n\n  euler.ir one arch\n", "E0701", 3, 1, "not a textual IR"),
        ("euler.ir v2 arch\nmodel @k {}", "E0702", 1, 10, "version v2"),
        ("euler.ir v1 layer\nmodel @k {}", "E0703", 1, 13, "`layer` is not a stage"),
        ("euler.ir v1 arch", "E0704", 1, 17, "the text ends too early"),
        ("euler.ir v1 arch\ngraph @k {}", "E0713", 2, 1, "not a model"),
        ("euler.ir v1 arch\nmodel @k", "E0713", 2, 1, "not a model with a body"),
        (in_model("op"), "", 0, 0, ""),
        (in_model("%a = op %b : []"), "E0705", 3, 9, "%b is not defined"),
        (in_model("%a = op %a : []"), "E0705", 3, 9, "%a is not defined"),
        (in_model("op {x = @b}"), "E0706", 3, 9, "no op defines @b"),
        (in_model("op [@b]"), "E0706", 3, 5, "no op defines @b"),
        (in_model("op @a\nop @a"), "E0707", 4, 4, "`@a` is defined twice"),
        (in_model("%a = op : []\n%a = op : []"), "E0707", 4, 1, "`%a` is defined twice"),
        (in_model("%a, %a = op : [], []"), "E0707", 3, 5, "`%a` is defined twice"),
        (in_model("op(%a: [], %a: []) {}"), "E0707", 3, 12, "`%a` is defined twice"),
        (in_model("dim d = 1\ndim d = 1"), "E0707", 4, 5, "`d` is defined twice"),
        (in_model("op {a = 1, a = 1}"), "E0707", 3, 12, "`a` is given twice"),
        (in_model("op [1] {schedule = [1]}"), "E0707", 3, 4, "`schedule` is given twice"),
        (in_model("%a, %b = op : []"), "E0708", 3, 10, "2 results, but 1 type"),
        (in_model("op : []"), "E0708", 3, 1, "0 results, but 1 type"),
        (in_model("%a = op"), "E0708", 3, 6, "1 result, but 0 types"),
        (in_model("op {a = silu}"), "E0709", 3, 9, "`silu` is not a declared dim"),
        (in_model("op {a = [[b]*2]}"), "E0709", 3, 11, "`b` is not a declared dim"),
        (in_model("op [[0*1000]*1000]"), "E0711", 3, 14, "more than 100000 items"),
        (in_model("op {a = " + "[" * 99 + "]" * 99 + "}"), "E0711", 3, 8 + MAX_DEPTH, "nested more than 64 deep"),
        (in_model("op {" * 99 + "op}" + "}" * 98), "E0711", 3, 1 + 4 * MAX_DEPTH - 4, "nested more than 64 deep"),
        (in_model("op {a = 18446744073709551616}"), "E0712", 3, 9, "not a 64-bit integer"),
        (in_model("op {a = " + "9" * 5000 + "}"), "E0712", 3, 9, "not a 64-bit integer"),
        (in_model("op {a = 1e999}"), "E0712", 3, 9, "beyond double precision"),
        (in_model('op {a = "\\x"}'), "E0712", 3, 9, "not a JSON string"),
        (in_model('op {a = "\\ud800"}'), "E0712", 3, 9, "half a character"),
        (in_model("op {a = [1*0]}"), "E0712", 3, 12, "0 is not above 0"),
        (in_model('op loc("x":0:1)'), "E0712", 3, 12, "0 is not above 0"),
        (in_model("dim true = 1"), "E0712", 3, 5, "cannot name a dim"),
        (in_model("dim a.b = 1"), "E0712", 3, 5, "cannot name a dim"),
        (in_model("op {\ndim d = 1\n}"), "E0713", 4, 1, "declared within an op"),
        (in_model("op {\nyield\nop\n}"), "E0713", 4, 1, "`yield` is not the last op"),
        (in_model("op(%a: [])"), "E0713", 3, 1, "arguments but no body"),
    ],
)
def test_each_error_has_its_code_and_place(text: str, code: str, line: int, column: int, message: str) -> None:
    found = findings(text)
    expected = [(code, line, column)] if code else []
    assert [(item.code, item.primary.span.line, item.primary.span.column) for item in found] == expected
    assert all(message in item.message for item in found)


@pytest.mark.parametrize(
    ("body", "line", "column", "message", "label"),
    [
        ("op %a %b", 3, 7, "unexpected `%b`", "or the end of the line"),
        ("op [1, 2\nop", 3, 9, "the line ends too early", "expected `]`, `,` or `*`"),
        ("%a =\nop x", 4, 4, "unexpected `x`", "`:`"),
        ("op {x = ?}", 3, 9, "unexpected character '?'", "a string, a number"),
        ("op {a = 1, x y}", 3, 14, "unexpected `y`", "expected `=`"),
        ('op {x = "a}', 3, 9, "unclosed string", "no closing quote"),
        ("op : [t<=]", 3, 8, "unexpected character '<'", "expected `]` or `,`"),
        ("op }\nop", 4, 1, "unexpected `op`", "the end of the text"),
        ("op {\n)}", 4, 1, "unexpected `)`", "a name"),
        ("op [\n1", 4, 2, "the line ends too early", "`]`"),
        ("op {x = [1\n}", 3, 11, "the line ends too early", "`]`"),
        ("%" + "a" * 99, 3, 101, "the line ends too early", "expected `=` or `,`"),
        ("op " + "a" * 99, 3, 4, "unexpected `" + "a" * 37 + "...`", "expected"),
        ("op\ndim = 4", 4, 5, "unexpected `=`", "a name"),
    ],
)
def test_syntax_errors_say_what_is_expected(body: str, line: int, column: int, message: str, label: str) -> None:
    (found,) = findings(in_model(body))[:1]
    assert (found.code, found.primary.span.line, found.primary.span.column) == ("E0704", line, column)
    assert found.message == message
    assert label in found.primary.text


def test_all_syntax_errors_of_a_text_are_found_in_one_run() -> None:
    text = in_model("op %a %b\nx {\n  k = 1,\n  y z = 2,\n}\nt @t(%x) {\n  op [1\n}\nop {x = ?}")
    assert brief(text) == [("E0704", line, column) for line, column in ((3, 7), (6, 5), (8, 8), (9, 8), (11, 9))]


@pytest.mark.parametrize("body", ["%a =\nop x", "dim a = }", "op {x = [1, 2"])
def test_one_cause_is_one_error(body: str) -> None:
    assert len(findings(in_model(body + "\nop"))) == 1


def test_a_text_that_ends_early_is_one_error() -> None:
    assert brief("euler.ir v1 arch\nmodel @k {\n  op {\n\n") == [("E0704", 3, 7)]


def test_all_name_errors_of_a_text_are_found_in_one_run() -> None:
    text = in_model("%a = op %x : []\nop %a {y = @z, n = w}\nop : [t]")
    assert [code for code, _, _ in brief(text)] == ["E0705", "E0706", "E0709", "E0708"]


def test_a_faulty_definition_still_defines() -> None:
    assert [code for code, _, _ in brief(in_model("%a, %b = op %x : []\nop %a, %b"))] == ["E0708", "E0705"]


def test_duplicates_point_at_the_first() -> None:
    (found,) = findings(in_model("op @a\nop @a"))
    assert (found.labels[0].span.line, found.labels[0].text) == (3, "defined here before")


@pytest.mark.parametrize(
    ("body", "help"),
    [
        ("%query = op : []\nop %qurey", "did you mean `%query`?"),
        ("op @attention\nop {x = @atention}", "did you mean `@attention`?"),
        ("dim heads = 2\nop {x = head}", "did you mean `heads`?"),
        ("norm.rsm", "did you mean `norm.rms`?"),
    ],
)
def test_misspelt_names_are_guessed(body: str, help: str) -> None:
    (found,) = findings(in_model(body), KNOWN_OPS)
    assert found.help == help


def test_unknown_ops_are_the_callers_business() -> None:
    text = in_model("mixer.unheard")
    assert findings(text) == ()
    assert [item.code for item in findings(text, KNOWN_OPS)] == ["E0710"]


def test_errors_already_collected_do_not_stop_a_good_text() -> None:
    diagnostics = Diagnostics()
    assert parse_module("", "bad.eir", diagnostics) is None
    assert parse_module(in_model("op"), "good.eir", diagnostics) is not None
    assert len(diagnostics.items) == 1


def test_a_text_beyond_the_bound_is_not_read() -> None:
    assert [item.code for item in findings("#" * (MAX_CHARACTERS + 1))] == ["E0711"]


def test_a_flood_of_errors_is_cut_off() -> None:
    assert len(findings(in_model("op %x\n" * 3000))) == MAX_ERRORS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_example_of_each_page_has_the_error_it_describes(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    sections = re.findall(r"^#+ .*$", text, re.MULTILINE)
    assert re.fullmatch(rf"# {page.stem}: \S.*", sections[0])
    assert sections[1:] == ["## What", "## Why", "## Example", "## Fix"]
    wrong, *right = re.findall(r"^```eir\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert {item.code for item in findings(wrong, KNOWN_OPS)} == {page.stem}
    assert [findings(fixed, KNOWN_OPS) for fixed in right] == [()] * len(right)


def test_every_code_of_the_textual_ir_has_its_page() -> None:
    sources = (Path(__file__).parents[2] / "ir" / name for name in ("parser.py", "reading.py", "decoding.py"))
    codes = {code for source in sources for code in re.findall(r"E07\d\d", source.read_text()) if code != "E07xx"}
    assert {page.stem for page in PAGES} == codes


PIECES = ["{", "}", "[", "]", "(", ")", "%a", "@b", "=", ":", ",", "*", "..", '"', "\\", "\n", " ", "#", "1", "-", "é"]
PIECES += ["model", "dim", "yield", "carries", "loc", "euler.ir v1 arch\n", "1e999", "\x00", "\r", "\u2028", "\ud800"]


@few
@given(modules(), st.data())
def test_a_mutated_text_never_raises(module: Module, data: st.DataObject) -> None:
    text = print_module(module, locs=True)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(st.sampled_from(PIECES) | st.just("")) + text[end:]
    accept_or_explain(text)


@few
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
@example('"' * 2000)
@example("[" * 5000)
@example("op {\n" * 5000)
@example("%" + "a" * 5000 + "=")
def test_a_random_text_never_raises(text: str) -> None:
    accept_or_explain(text)
    accept_or_explain(f"euler.ir v1 arch\nmodel @k {{\n{text}\n}}")


def accept_or_explain(text: str) -> None:
    """Either the text is refused with places that exist in it, or what it says can be verified and printed."""
    diagnostics = Diagnostics()
    module = parse_module(text, "x.eir", diagnostics)
    if module is not None:
        verify(module)
        assert parse_module(print_module(module), "x.eir", diagnostics) == module
        return
    lines = text.split("\n")
    for item in diagnostics.items:
        span = item.primary.span
        assert 1 <= span.line <= len(lines)
        assert 1 <= span.column <= len(lines[span.line - 1]) + 1
