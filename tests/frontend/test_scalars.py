"""Plain scalars follow the core schema of YAML 1.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eulerc.frontend.scalars import UnreadableScalarError, older_reading, resolve_plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("NULL", None),
        ("true", True),
        ("False", False),
        ("12", 12),
        ("+12", 12),
        ("-7", -7),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("6e1", 60.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5E+2", -50.0),
        ("0.0", 0.0),
    ],
)
def test_core_schema_values(text: str, value: object) -> None:
    resolved = resolve_plain(text)
    assert resolved == value and type(resolved) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "yes",
        "on",
        "off",
        "y",
        "n",
        "tRue",
        "nUll",
        "1_000",
        "1:30",
        "0b11",
        "0o8",
        "+0x1",
        "1e",
        ".",
        "-",
        "e5",
        "0.1.2",
        "2001-01-01",
        "１２",
    ],
)
def test_everything_else_is_a_string(text: str) -> None:
    assert resolve_plain(text) == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (".inf", "E0111"),
        ("-.INF", "E0111"),
        (".NaN", "E0111"),
        ("1e999", "E0112"),
        ("-1e999", "E0112"),
        ("1e-999", "E0112"),
        ("9" * 33, "E0112"),
        ("0x" + "f" * 40, "E0112"),
        ("1." + "0" * 5000, "E0112"),
    ],
)
def test_numbers_that_no_field_takes_are_refused(text: str, code: str) -> None:
    with pytest.raises(UnreadableScalarError) as caught:
        resolve_plain(text)
    assert caught.value.code == code


def test_a_written_zero_is_not_taken_for_one_that_is_too_small() -> None:
    assert resolve_plain("0.000e-999") == 0.0


@given(st.integers(-(10**30), 10**30))
def test_integers_read_back(value: int) -> None:
    assert resolve_plain(str(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back(value: float) -> None:
    assert resolve_plain(repr(value)) == value


@pytest.mark.parametrize(
    ("text", "now"), [("yes", "true"), ("Off", "false"), ("32_000", "32000"), ("maybe", None), ("_1", None)]
)
def test_what_yaml_1_1_would_have_read(text: str, now: str | None) -> None:
    assert older_reading(text) == now
