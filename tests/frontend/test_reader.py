"""Reading YAML: places, aliases, merges, and a diagnostic at the right place for all that is refused."""

from __future__ import annotations

import time
from typing import Any

import pytest

from eulerc.diagnostics.model import Diagnostics
from eulerc.frontend import decode, reader
from eulerc.frontend.reader import read
from eulerc.frontend.tree import Mapping, Node, Scalar


def plain(node: Node | None) -> Any:
    if node is None or isinstance(node, Scalar):
        return node.value if node else None
    if isinstance(node, Mapping):
        return {entry.key: plain(entry.value) for entry in node}
    return [plain(item) for item in node.items]


def read_well(text: str) -> Node:
    diagnostics = Diagnostics()
    node = read(text.encode(), "spec.yaml", diagnostics)
    assert diagnostics.items == []
    assert node is not None
    return node


def complaints(data: str | bytes) -> list[tuple[str, int, int, str]]:
    """Code, line, column and message of all diagnostics."""
    diagnostics = Diagnostics()
    read(data.encode() if isinstance(data, str) else data, "spec.yaml", diagnostics)
    return [
        (item.code, item.primary.span.line, item.primary.span.column, item.message) for item in diagnostics.sorted()
    ]


def test_scalars_keys_and_collections() -> None:
    text = "a: 1\nb: [x, 'yes', \"2\", 1e-3, {c: ~}]\nd:\n  - no\n  -\n    e: |\n      two\n      lines\n"
    assert plain(read_well(text)) == {
        "a": 1,
        "b": ["x", "yes", "2", 0.001, {"c": None}],
        "d": ["no", {"e": "two\nlines\n"}],
    }


def test_spans_count_from_one_and_end_after_the_last_character() -> None:
    root = read_well("a: 12\nkey:\n  inner: 'q r'  # comment\n  list: [1,\n    2]\nempty:\nblock: |\n  x\n\n# end\n")
    assert isinstance(root, Mapping)
    key = root.entry("key")
    assert key is not None and isinstance(key.value, Mapping)
    inner, listed, empty, block = key.value.get("inner"), key.value.get("list"), root.get("empty"), root.get("block")
    assert inner is not None and listed is not None and empty is not None and block is not None
    places = [
        (span.line, span.column, span.end_line, span.end_column)
        for span in (root.span, key.key_span, key.value.span, inner.span, listed.span, empty.span, block.span)
    ]
    assert places == [
        (1, 1, 8, 4),
        (2, 1, 2, 4),
        (3, 3, 5, 7),
        (3, 10, 3, 15),
        (4, 9, 5, 7),
        (6, 7, 6, 7),
        (7, 8, 8, 4),
    ]


def test_written_is_the_text_in_the_file() -> None:
    root = read_well("a: 0x10\nb: 'it''s'\nc: &n 1e-3\nd: *n\n")
    assert isinstance(root, Mapping)
    written = [entry.value.written for entry in root if isinstance(entry.value, Scalar)]
    assert written == ["0x10", "'it''s'", "1e-3", "*n"]


def test_columns_count_characters_and_not_bytes() -> None:
    root = read_well("é日: {x: 1}\r\nb: 2\r\n")
    assert isinstance(root, Mapping)
    value, second = root.get("é日"), root.get("b")
    assert value is not None and value.span.column == 5
    assert second is not None and (second.span.line, second.span.column) == (2, 4)


def test_byte_order_mark_is_accepted_and_takes_no_column() -> None:
    root = read(b"\xef\xbb\xbfa: 1", "spec.yaml", Diagnostics())
    assert isinstance(root, Mapping)
    assert root.entries[0].key == "a" and root.entries[0].key_span.column == 1


def test_aliases_stand_for_their_value() -> None:
    root = read_well("a: &x {b: [1, 2]}\nc: *x\nd: &n 5\ne: *n\n&k key: 1\n*k : {f: *x}\n".replace("*k :", "other:"))
    assert plain(root) == {
        "a": {"b": [1, 2]},
        "c": {"b": [1, 2]},
        "d": 5,
        "e": 5,
        "key": 1,
        "other": {"f": {"b": [1, 2]}},
    }


def test_an_aliased_scalar_stands_where_the_alias_does() -> None:
    root = read_well("a: &n 5\nb: *n\n")
    assert isinstance(root, Mapping)
    value = root.get("b")
    assert value is not None and (value.span.line, value.span.column, value.span.end_column) == (2, 4, 6)


def test_an_alias_may_be_a_key() -> None:
    assert plain(read_well("a: &k name\n*k : 1\n")) == {"a": "name", "name": 1}


def test_a_later_anchor_of_the_same_name_wins() -> None:
    assert plain(read_well("a: &x 1\nb: &x 2\nc: *x\n")) == {"a": 1, "b": 2, "c": 2}


def test_merge_keys_are_overridden_by_own_keys_and_by_earlier_mappings() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {z: 3, <<: [*a, *b]}\nd:\n  <<: *a\n  y: 4\n"
    merged = plain(read_well(text))
    assert merged["c"] == {"x": 1, "y": 1, "z": 3}
    assert merged["d"] == {"x": 1, "y": 4}


def test_a_quoted_merge_key_is_an_ordinary_key() -> None:
    assert plain(read_well("'<<': 1")) == {"<<": 1}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: \xe9", ("E0102", 1, 4, "byte 0xe9 is not UTF-8")),
        ("a: 1\n".encode("utf-16"), ("E0102", 1, 1, "the file is UTF-16, not UTF-8")),
        ("a: 1\n".encode("utf-32"), ("E0102", 1, 1, "the file is UTF-32, not UTF-8")),
        ("a: 1\n".encode("utf-16-le"), ("E0102", 1, 1, "the file is UTF-16 or binary data, not UTF-8")),
        (b"#" * (decode.MAX_BYTES + 1), ("E0103", 1, 1, "the file is larger than 4 MiB")),
        ("", ("E0104", 1, 1, "spec.yaml is empty")),
        ("\n# nothing\n", ("E0104", 1, 1, "spec.yaml is empty")),
        ("---\n...\n", ("E0104", 1, 1, "spec.yaml is empty")),
        ("a: 1\n---\nb: 2\n", ("E0105", 2, 1, "a spec is one document, and a second one begins")),
        ("a: b: c", ("E0106", 1, 5, "`:` cannot stand here")),
        ("a: 1\nfoo\n", ("E0106", 2, 1, "`foo` is neither a key nor a list item")),
        ("a:\n  b: 1\n c: 2", ("E0106", 3, 2, "this does not fit into the block it stands in")),
        ("- a\nb: 1", ("E0106", 2, 1, "this does not fit into the list it stands in")),
        ("a: {x: ${let.y}}", ("E0106", 1, 9, "an expression within {...} or [...] needs quotes")),
        ("a: [${let.y}]", ("E0106", 1, 6, "an expression within {...} or [...] needs quotes")),
        ("a: {x: 1", ("E0106", 1, 9, "`{` is not closed")),
        ("a: [1, 2", ("E0106", 1, 9, "`[` is not closed")),
        ("a: 'x", ("E0106", 1, 4, "the quote is never closed")),
        ("a: 'x\n---\nb: 1", ("E0106", 2, 1, "the quote is not closed before the document ends")),
        ('a: "\\q"', ("E0106", 1, 5, "`\\` begins no escape that YAML knows")),
        ('a: "\\uD800"', ("E0106", 1, 7, "an escape in a quoted string is not a character")),
        ("a: @x", ("E0106", 1, 4, "a value cannot begin with this character")),
        ("a: *", ("E0106", 1, 5, "a name must follow `*` or `&`")),
        ("a: - b", ("E0106", 1, 4, "`- ` cannot stand here")),
        ("a: 1\n...\nfoo", ("E0106", 3, 1, "text after the end of the document")),
        ("a: ]", ("E0106", 1, 4, "a value is missing")),
        ("a:\n\tb: 1", ("E0107", 2, 1, "a tab is used as indentation")),
        ("a:\n  b: x\n  \tc: 1", ("E0107", 3, 3, "a tab is used as indentation")),
        ("a: 1\nb: 2\na: 3", ("E0108", 3, 1, "key `a` is given twice")),
        ("1: a", ("E0109", 1, 1, "key `1` is a number, not a string")),
        ("~: a", ("E0109", 1, 1, "key `~` is null, not a string")),
        ("true: a", ("E0109", 1, 1, "key `true` is a truth value, not a string")),
        ("? [a]\n: b", ("E0109", 1, 3, "a list or mapping cannot be a key")),
        ("? \n: a", ("E0109", 1, 2, "a key is missing before `:`")),
        ("a: !!str 1", ("E0110", 1, 4, "tag `!!str` is not part of the language")),
        ("a: !py/object [1]", ("E0110", 1, 4, "tag `!py/object` is not part of the language")),
        ("a: !q!x 1", ("E0110", 1, 4, "this is not a tag of the language")),
        ("a: [.inf]", ("E0111", 1, 5, "`.inf` is not a finite number")),
        ("a: 1e999", ("E0112", 1, 4, "`1e999` is too large for a number")),
        ("a: *b", ("E0113", 1, 4, "alias `*b` names nothing")),
        ("a: &a [*a]", ("E0114", 1, 8, "`*a` stands within the value it names")),
        ("a: &a {b: {c: *a}}", ("E0114", 1, 15, "`*a` stands within the value it names")),
        ("[" * 70, ("E0116", 1, 65, "values are nested deeper than 64 levels")),
        ("a: 1\u200b\ufeff", ("E0117", 1, 6, "character U+FEFF is not allowed in YAML")),
        ("a: \x1b[1m", ("E0117", 1, 4, "character U+001B is not allowed in YAML")),
        ("a: {<<: 1}", ("E0118", 1, 9, "`<<` merges mappings only")),
        ("%YAML 1.1\n---\na: 1", ("E0119", 1, 1, "`%YAML 1.1` asks for another version of YAML")),
        ("%YAML 2.0\n---\na: 1", ("E0119", 1, 1, "the %YAML line is not understood")),
    ],
)
def test_bad_input_is_reported_once_at_its_place(data: str | bytes, expected: tuple[str, int, int, str]) -> None:
    assert complaints(data) == [expected]


def test_all_errors_that_leave_the_rest_readable_come_in_one_run() -> None:
    text = "a: 1\na: 2\na: 3\n1: x\nb: .nan\nc: !t 1\nd: *q\ne: {f: 1, f: 2}\n~: 1\ng: 5\n"
    assert [code for code, *_ in complaints(text)] == [
        "E0108",
        "E0108",
        "E0109",
        "E0111",
        "E0110",
        "E0113",
        "E0108",
        "E0109",
    ]
    assert plain(read(text.encode(), "spec.yaml", Diagnostics()))["g"] == 5


def test_a_duplicate_key_shows_where_it_was_first_given() -> None:
    diagnostics = Diagnostics()
    read(b"a: 1\nb: 2\na: 3\n", "spec.yaml", diagnostics)
    (label,) = diagnostics.items[0].labels
    assert (label.span.line, label.text) == (1, "first given here")


def test_the_first_of_duplicate_keys_is_kept() -> None:
    assert plain(read(b"a: 1\na: 2\n", "spec.yaml", Diagnostics())) == {"a": 1}


def test_a_bad_value_is_not_judged_a_second_time() -> None:
    diagnostics = Diagnostics()
    root = read(b"a: .inf\n", "spec.yaml", diagnostics)
    assert isinstance(root, Mapping)
    diagnostics.error("E0203", "a takes a number", root.entries[0].value.span)
    assert [item.code for item in diagnostics.items] == ["E0111"]


def test_a_misspelt_alias_gets_a_suggestion() -> None:
    diagnostics = Diagnostics()
    read(b"a: &attention 1\nb: *atention\n", "spec.yaml", diagnostics)
    assert diagnostics.items[0].help == "did you mean *attention?"


def test_an_alias_bomb_is_refused_within_a_second() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    begin = time.process_time()
    found = complaints("\n".join(lines))
    assert [code for code, *_ in found] == ["E0115"]
    assert time.process_time() - begin < 1


def test_nesting_by_aliases_is_bounded_like_nesting_by_hand() -> None:
    lines = ["a0: &a0 [[[[1]]]]"] + [f"a{i}: &a{i} [[[[*a{i - 1}]]]]" for i in range(1, 40)]
    assert [code for code, *_ in complaints("\n".join(lines))] == ["E0116"]


def test_sixty_four_levels_can_be_read() -> None:
    assert complaints("[" * 63 + "1" + "]" * 63) == []


def test_as_many_nodes_as_allowed_can_be_read() -> None:
    assert complaints("- a\n" * (reader.MAX_NODES - 1)) == []
    assert [code for code, *_ in complaints("- a\n" * reader.MAX_NODES)] == ["E0115"]
