"""Diagnostics as text: literal expected output."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eulerc.diagnostics.model import Diagnostic, Diagnostics, Fix, Label
from eulerc.diagnostics.render import render, summary
from eulerc.diagnostics.text import columns, shorten, split_lines, visible
from eulerc.ir.span import NOWHERE, Span


def at(line: int, column: int, width: int = 1, source: str = "spec.yaml") -> Span:
    return Span(source, line, column, line, column + width)


def shown(diagnostic: Diagnostic, width: int = 100, **sources: str) -> str:
    texts = {f"{name}.yaml": text for name, text in sources.items()}
    return render([diagnostic], texts, width=width)


def expected(text: str) -> str:
    return dedent(text).lstrip("\n")


def test_two_places_in_one_file_share_an_excerpt_in_the_order_of_the_lines() -> None:
    diagnostic = Diagnostic(
        "E0312",
        "error",
        "16 query heads cannot share 3 key/value heads",
        Label(at(14, 14, 2), "not a multiple of 3"),
        (Label(at(12, 17), "3 key/value heads, set here"),),
        help="n_kv_heads can be 1, 2, 4, 8 or 16",
    )
    text = "\n" * 11 + "    n_kv_heads: 3\n    d_model: 64\n    n_heads: 16\n"
    assert shown(diagnostic, spec=text) == expected("""
        error[E0312]: 16 query heads cannot share 3 key/value heads
          --> spec.yaml:14:14
           |
        12 |     n_kv_heads: 3
           |                 - 3 key/value heads, set here
        14 |     n_heads: 16
           |              ^^ not a multiple of 3
           = help: n_kv_heads can be 1, 2, 4, 8 or 16
        """)


def test_two_places_on_one_line_stand_beneath_each_other() -> None:
    diagnostic = Diagnostic("E0108", "error", "twice", Label(at(1, 7), "again"), (Label(at(1, 2), "first"),))
    assert shown(diagnostic, spec="{a:1, a: 2}") == expected("""
        error[E0108]: twice
         --> spec.yaml:1:7
          |
        1 | {a:1, a: 2}
          |  - first
          |       ^ again
        """)


def test_other_files_get_blocks_of_their_own_and_share_the_gutter() -> None:
    diagnostic = Diagnostic(
        "E0426",
        "error",
        "template `t` is defined twice",
        Label(at(2, 3), "again"),
        (Label(at(10, 3, source="part.yaml"), "first"),),
        ("templates of all files share one set of names",),
        "rename one",
    )
    assert shown(diagnostic, spec="layer_templates:\n  t: 1\n", part="\n" * 9 + "  t: 2") == expected("""
        error[E0426]: template `t` is defined twice
          --> spec.yaml:2:3
           |
         2 |   t: 1
           |   ^ again
          ::: part.yaml:10:3
           |
        10 |   t: 2
           |   - first
           = note: templates of all files share one set of names
           = help: rename one
        """)


def test_wide_and_combining_characters_and_tabs_keep_the_caret_in_place() -> None:
    text = "\t日本: e\u0301x"
    diagnostic = Diagnostic("E0203", "error", "m", Label(at(1, 6, 2), "here"), (Label(at(1, 2, 2), "key"),))
    assert shown(diagnostic, spec=text) == expected("""
        error[E0203]: m
         --> spec.yaml:1:6
          |
        1 |     日本: e\u0301x
          |     ---- key
          |           ^ here
        """)


def test_long_lines_are_cut_around_the_label() -> None:
    text = "a: [" + "1, " * 100 + "x, " + "2, " * 100 + "3]"
    diagnostic = Diagnostic("E0203", "error", "not a number", Label(at(1, 305), "here"))
    assert shown(diagnostic, 30, spec=text) == expected("""
        error[E0203]: not a number
         --> spec.yaml:1:305
          |
        1 | ... 1, 1, 1, x, 2, 2, 2, 2, 2, 2,...
          |              ^ here
        """)


def test_labels_far_apart_on_a_long_line_show_the_line_twice() -> None:
    text = "{first: 1, " + "b: 2, " * 50 + "first: 3}"
    column = text.rindex("first") + 1
    diagnostic = Diagnostic("E0108", "error", "twice", Label(at(1, column, 5), "again"), (Label(at(1, 2, 5), "first"),))
    assert shown(diagnostic, 20, spec=text) == expected(f"""
        error[E0108]: twice
         --> spec.yaml:1:{column}
          |
        1 | {{first: 1, b: 2, b: ...
          |  ----- first
        1 | ...: 2, b: 2, first: 3}}
          |               ^^^^^ again
        """)


def test_a_span_of_several_lines_is_marked_to_the_end_of_its_first() -> None:
    diagnostic = Diagnostic("E0203", "error", "m", Label(Span("spec.yaml", 1, 4, 2, 5), "here"))
    assert shown(diagnostic, spec="a: [1,\n    2]\n") == expected("""
        error[E0203]: m
         --> spec.yaml:1:4
          |
        1 | a: [1,
          |    ^^^ here
        """)


def test_an_empty_span_and_one_after_the_end_get_one_caret() -> None:
    diagnostic = Diagnostic("W0401", "warning", "m", Label(at(1, 3, 0)), (Label(at(9, 9, 9), "gone"),))
    assert shown(diagnostic, spec="a:\n") == expected("""
        warning[W0401]: m
         --> spec.yaml:1:3
          |
        1 | a:
          |   ^
        9 |
          | - gone
        """)


def test_a_place_without_text_shows_only_where_it_is() -> None:
    diagnostic = Diagnostic("E0101", "error", "spec.yaml cannot be read", Label(at(1, 1), "no such file"))
    assert shown(diagnostic) == expected("""
        error[E0101]: spec.yaml cannot be read
         --> spec.yaml:1:1
          | no such file
        """)


def test_a_diagnostic_about_no_file_has_no_place() -> None:
    assert shown(Diagnostic("E0601", "error", "m", Label(NOWHERE, "x"), help="h")) == "error[E0601]: m\n  = help: h\n"


def test_a_fix_is_told_where_there_is_no_help() -> None:
    diagnostic = Diagnostic("E0109", "error", "m", Label(at(1, 1)), fix=Fix(at(1, 1), '"1"'))
    assert shown(diagnostic, spec="1: a").endswith('  = help: write `"1"`\n')


def test_help_of_several_lines_stays_in_its_column() -> None:
    diagnostic = Diagnostic("E0401", "error", "m", Label(NOWHERE), help="write\nlet: {a: 1}")
    assert shown(diagnostic) == "error[E0401]: m\n  = help: write\n          let: {a: 1}\n"


def test_colour_only_adds_escape_sequences() -> None:
    diagnostic = Diagnostic("E0108", "error", "m", Label(at(1, 4), "p"), (Label(at(1, 1), "s"),), ("n",), "h")
    colored = render([diagnostic], {"spec.yaml": "a: 1"}, color=True)
    assert colored.startswith("\x1b[1;31merror[E0108]\x1b[0m\x1b[1m: m\x1b[0m\n")
    assert "\x1b[1;31m^ p\x1b[0m" in colored and "\x1b[1;34m- s\x1b[0m" in colored
    assert re.sub(r" +\n", "\n", re.sub("\x1b\\[[0-9;]*m", "", colored)) == shown(diagnostic, spec="a: 1")


def test_nothing_in_spec_or_message_can_steer_the_terminal() -> None:
    text = "a: \x1b[31m\u202e\x07\u2028"
    diagnostic = Diagnostic("E0117", "error", "m \x1b]0;x\x07", Label(at(1, 4), "l \x1b[2J"), help="h \x9b")
    assert not set(shown(diagnostic, spec=text)) & set("\x1b\x07\x9b\u202e\u2028")


def test_several_diagnostics_are_separated_by_an_empty_line() -> None:
    items = [Diagnostic("E0601", "error", name, Label(NOWHERE)) for name in "ab"]
    assert render(items, {}) == "error[E0601]: a\n\nerror[E0601]: b\n"
    assert render([], {}) == ""


@pytest.mark.parametrize(
    ("severities", "text"), [("", ""), ("e", "1 error"), ("eewn", "2 errors, 1 warning, 1 note"), ("nn", "2 notes")]
)
def test_summary_counts_by_severity(severities: str, text: str) -> None:
    collected = Diagnostics()
    for number, letter in enumerate(severities):
        add = {"e": collected.error, "w": collected.warning, "n": collected.note}[letter]
        add("E0000", str(number), NOWHERE)
    assert summary(collected.items) == text


def test_the_collector_keeps_what_is_said_twice_once_and_sorts_by_place() -> None:
    collected = Diagnostics()
    collected.error("E0203", "b", at(2, 1))
    collected.warning("W0401", "a", at(1, 5))
    collected.error("E0203", "b", at(2, 1))
    collected.error("E0202", "a", at(1, 5))
    assert [item.code for item in collected.sorted()] == ["E0202", "W0401", "E0203"]


@given(st.text(max_size=30))
def test_columns_count_what_is_visible(text: str) -> None:
    assert columns(text) == columns(visible(text)) == sum(columns(character) for character in text)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3),
        ("日本", 4),
        ("e\u0301", 1),
        ("\t", 4),
        ("\x1b", 1),
        ("\u200d", 0),
        ("한", 2),
        ("é", 1),
        ("ｱ", 1),
        ("Ａ", 2),
    ],
)
def test_columns_of_known_characters(text: str, width: int) -> None:
    assert columns(text) == width


def test_lines_end_as_in_yaml_1_2() -> None:
    assert split_lines("\ufeffa\r\nb\rc\nd\u2028e\x0cf") == ["a", "b", "c", "d\u2028e\x0cf"]


@given(st.text(max_size=400), st.integers(10, 80))
def test_shortened_text_is_one_line_within_the_limit(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= limit and len(short.splitlines()) <= 1


def test_short_text_stays_as_it_is() -> None:
    assert shorten("a  b\nc") == "a b c"
