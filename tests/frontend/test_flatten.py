"""Printed YAML reads as the tree it was printed from."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from eulerc.diagnostics.model import Diagnostics
from eulerc.frontend.flatten import as_yaml
from eulerc.frontend.reader import read
from eulerc.frontend.tree import Entry, Mapping, Node, Scalar, Sequence
from eulerc.ir.span import NOWHERE

WORDS = st.sampled_from(
    [
        "a",
        "on",
        "No",
        "null",
        "~",
        "1e-3",
        "0x1",
        ".inf",
        "...",
        "---",
        "<<",
        "- a",
        "a: b",
        "x #y",
        "a b",
        "1_0",
        "${let.a * 2}",
        "${a if b == 'c' else d}",
        "=",
        "é",
        "\u2028",
        "&a",
        "%",
        "'",
        '"',
    ]
)
TEXTS = WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)


def to_tree(value: Any) -> Node:
    if isinstance(value, dict):
        return Mapping(tuple(Entry(key, NOWHERE, to_tree(item)) for key, item in value.items()), NOWHERE)
    if isinstance(value, list):
        return Sequence(tuple(to_tree(item) for item in value), NOWHERE)
    return Scalar(value, NOWHERE)


def to_value(node: Node | None) -> Any:
    if isinstance(node, Mapping):
        return {entry.key: to_value(entry.value) for entry in node}
    if isinstance(node, Sequence):
        return [to_value(item) for item in node.items]
    assert node is not None
    return node.value


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_printed_trees_read_back(value: dict[str, Any]) -> None:
    tree = to_tree(value)
    assert isinstance(tree, Mapping)
    diagnostics = Diagnostics()
    again = to_value(read(as_yaml(tree).encode(), "flat.yaml", diagnostics))
    assert diagnostics.items == []
    assert again == value and repr(again) == repr(value)


@given(st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=4))
def test_strings_read_back_by_yaml_1_1_as_well(value: dict[str, str]) -> None:
    tree = to_tree(value)
    assert isinstance(tree, Mapping)
    assert yaml.safe_load(as_yaml(tree)) == value


def test_numbers_stay_as_they_were_written() -> None:
    text = "a: 1e-3\nb: 0x10\nc: 1.50\nd: ~\n"
    root = read(text.encode(), "spec.yaml", Diagnostics())
    assert isinstance(root, Mapping)
    assert as_yaml(root) == text
