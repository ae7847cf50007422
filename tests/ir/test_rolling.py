"""Lists are re-rolled into the shortest nest of repetitions, and the nest says the same list."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eulerc.ir.rolling import MAX_SEARCHED, Group, Leaf, Rolled, roll, written


def unrolled(items: Rolled, texts: list[str]) -> list[str]:
    result: list[str] = []
    for item in items:
        result += ([texts[item.index]] if isinstance(item, Leaf) else unrolled(item.items, texts)) * item.count
    return result


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ("", ""),
        ("a", "a"),
        ("a a", "a*2"),
        ("a b a b", "[a, b]*2"),
        ("@r @r @r @a " * 12, "[@r*3, @a]*12"),
        ("@d " + "@r @r @r @a " * 6 + "@d", "@d, [@r*3, @a]*6, @d"),
        (("a a b " * 2 + "c ") * 3, "[[a*2, b]*2, c]*3"),
        ("a a b a b a b", "a, [a, b]*3"),
        ("a b c", "a, b, c"),
        ("[1] [1] [1]", "[[1]]*3"),
        ("[1] [2]", "[1], [2]"),
    ],
)
def test_known_lists_have_the_form_a_reader_expects(elements: str, expected: str) -> None:
    texts = elements.split()
    assert written(roll(texts), texts) == expected


@given(st.lists(st.sampled_from(("a", "b", "[c]")), max_size=24))
def test_a_rolled_list_unrolls_to_itself(texts: list[str]) -> None:
    assert unrolled(roll(texts), texts) == texts


@given(st.lists(st.sampled_from("ab"), max_size=24))
def test_no_form_by_runs_alone_is_shorter(texts: list[str]) -> None:
    runs = [(text, len(list(run))) for text, run in groupby(texts)]
    by_runs = ", ".join(text if count == 1 else f"{text}*{count}" for text, count in runs)
    assert len(written(roll(texts), texts)) <= min(len(by_runs), len(", ".join(texts)))


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=5), st.integers(2, 9))
def test_repeating_a_list_never_costs_more_than_brackets_and_a_count(texts: list[str], count: int) -> None:
    once = len(written(roll(texts), texts))
    repeated = texts * count
    assert len(written(roll(repeated), repeated)) <= once + len(f"[]*{count}")


def test_very_long_lists_are_drawn_together_by_runs_only() -> None:
    texts = ["a"] * MAX_SEARCHED + ["[1]"] * 2 + ["b"]
    assert roll(texts) == (
        Leaf(0, MAX_SEARCHED),
        Group((Leaf(MAX_SEARCHED),), 2),
        Leaf(MAX_SEARCHED + 2),
    )
