"""`${...}` computes exactly, within bounds, and says at which column it went wrong."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eulerc.diagnostics.model import Diagnostic, Diagnostics
from eulerc.frontend.environment import Environment
from eulerc.frontend.expression import check, is_expression, mentions_layer, names_in, resolve
from eulerc.frontend.reader import read
from eulerc.frontend.tree import Mapping, Node, Scalar, ScalarValue

ENVIRONMENT = Environment(
    let={"width": 64, "zero": 0, "rate": 0.1, "deep": True, "d_model": 3},
    model={"d_model": 512, "name": "kestrel", "window": None},
    params={"kind": "mla", "window": None, "ratio": 2.5},
    layer_index=7,
    layer_count=12,
)


def tree(text: str) -> Node:
    node = read(text.encode(), "spec.yaml", Diagnostics())
    assert node is not None
    return node


def run(text: str, environment: Environment = ENVIRONMENT) -> tuple[ScalarValue, list[Diagnostic]]:
    """The value of `x: text` and the diagnostics."""
    diagnostics = Diagnostics()
    root = resolve(tree(f"x: {text}\n"), environment, diagnostics)
    assert isinstance(root, Mapping)
    value = root.get("x")
    assert isinstance(value, Scalar)
    return value.value, diagnostics.items


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${128/2}", 64),
        ("${129/2}", 64.5),
        ("${ let.width * (3 + 1) // 5 }", 51),
        ("${-7 // 2}", -4),
        ("${-7 % 3}", 2),
        ("${7.5 % 2}", 1.5),
        ("${--2}", 2),
        ("${+2 - -3}", 5),
        ("${2 + 3 * 4}", 14),
        ("${10 - 3 - 2}", 5),
        ("${100 / 10 / 5}", 2),
        ("${0.1 + 0.2}", 0.3),
        ("${let.rate * 3}", 0.3),
        ("${1_000 + 0x10 + 1e3 + .5 + 2.}", 2018.5),
        ("${min(3, let.width, 1e3)}", 3),
        ("${max(2)}", 2),
        ("${ceil(2.1) + floor(-2.1) + round(2.5) + round(3.5)}", 6),
        ("${sqrt(64) + sqrt(2.25)}", 9.5),
        ("${sqrt(2)}", math.sqrt(2)),
        ("${1 / sqrt(512)}", 512**-0.5),
        ("${1 if let.deep else 1 / let.zero}", 1),
        ("${1 if layer.index == 0 else 2 if layer.index < 8 else 3}", 2),
        ("${let.deep and not 1 > 2 or false}", True),
        ("${false and 1 / 0 > 1}", False),
        ("${1 < 2 <= 2 != 3}", True),
        ("${layer.index % 4 == 3}", True),
        ("${(layer.index + 1) / layer.count}", 2 / 3),
        ("${params.kind == 'mla'}", True),
        ("${params.kind}", "mla"),
        ("${params.window == null}", True),
        ("${model.window}", None),
        ("${True if params.ratio >= 2.5 else None}", True),
        ("${let . width}", 64),
        ("'${ ''full'' if 1 < 2 else ''none'' }'", "full"),
        ('"${let.width * 2}"', 128),
        ("|\n  ${let.width\n    * 2}\n", 128),
    ],
)
def test_values(text: str, value: ScalarValue) -> None:
    result, diagnostics = run(text)
    assert diagnostics == []
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "code", "column", "width", "message"),
    [
        ("${1 +}", "E0401", 9, 1, "the expression ends too early"),
        ("${(1 + 2}", "E0401", 12, 1, "the expression ends too early"),
        ("${1 2}", "E0401", 8, 1, "`2` is not expected in the expression"),
        ("${2 ** 3}", "E0401", 9, 1, "`*` is not expected in the expression"),
        ("${let.zero = 3}", "E0401", 15, 1, "`=` is not expected in the expression"),
        ("${}", "E0401", 6, 1, "the expression is empty"),
        ("${1 if 2}", "E0401", 12, 1, "the expression ends too early"),
        ("a${1}", "E0402", 4, 5, "`a${1}` mixes `${...}` with other text"),
        ("${1}${2}", "E0402", 4, 8, "`${1}${2}` mixes `${...}` with other text"),
        ("${1", "E0402", 4, 3, "`${1` has no closing `}`"),
        ("${let.widht}", "E0403", 6, 9, "`let.widht` is not defined"),
        ("${width}", "E0403", 6, 5, "`width` is not a name"),
        ("${model.width.x}", "E0403", 6, 13, "`model.width.x` is not a name"),
        ("${layer.depth}", "E0403", 6, 11, "`layer.depth` is not a name"),
        ("${1 + ciel(2)}", "E0403", 10, 4, "`ciel` is not a function"),
        ("${1 + model.name}", "E0404", 10, 10, "arithmetic needs numbers, not a string"),
        ("${let.deep * 2}", "E0404", 6, 8, "arithmetic needs numbers, not a truth value"),
        ("${1 if let.width else 2}", "E0404", 11, 9, "a condition is true or false, not a number"),
        ("${not params.window}", "E0404", 10, 13, "a condition is true or false, not null"),
        ("${let.width == 'a'}", "E0404", 19, 3, "a number and a string are never equal"),
        ("${model.name < 'a'}", "E0404", 6, 10, "arithmetic needs numbers, not a string"),
        ("${1 / let.zero}", "E0405", 10, 8, "division by zero"),
        ("${1 % (1 - 1)}", "E0405", 11, 5, "division by zero"),
        ("${sqrt(-2)}", "E0405", 6, 8, "a negative number has no square root"),
        ("${1e999}", "E0406", 6, 5, "`1e999` is out of range"),
        ("${9e399}", "E0406", 6, 5, "the result is too large for a number"),
        ("${0.5 + 9e399}", "E0406", 6, 11, "the result is too large for a number"),
        ("${1e-399 / 3}", "E0406", 6, 10, "the result is too small for a number"),
        ("${9e399*9e399*9e399*9e399 > 1}", "E0406", 6, 23, "a number within the expression takes more than 4096 bits"),
        ("${" + "1+" * 600 + "1}", "E0407", 1006, 1, "the expression has 1201 characters, more than 1000"),
        ("${" + "-" * 80 + "1}", "E0407", 70, 17, "the expression is nested deeper than 64 levels"),
        ("${ceil(1, 2)}", "E0410", 6, 4, "`ceil` takes one value, not 2"),
        ("${min()}", "E0410", 6, 3, "`min` takes at least one value, not 0"),
    ],
)
def test_faults_are_reported_at_their_column(text: str, code: str, column: int, width: int, message: str) -> None:
    value, diagnostics = run(text)
    assert value == text
    (found,) = diagnostics
    span = found.primary.span
    assert (found.code, span.column, span.end_column - span.column, found.message) == (code, column, width, message)


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("${let.widht}", "did you mean let.width?"),
        ("${width}", "did you mean let.width?"),
        ("${let.name}", "did you mean model.name?"),
        ("${let.qqq}", "let has width, zero, rate, deep, d_model"),
        ("${ciel(2)}", "did you mean ceil?"),
        ("${log(2)}", "the functions are min, max, ceil, floor, round, sqrt"),
        ("${2 ** 3}", "there is no power operator; write the product out"),
        ("'${1 ? 2 : 3}'", "write `a if condition else b`"),
    ],
)
def test_help_says_what_would_work(text: str, help: str) -> None:
    assert run(text)[1][0].help == help


def test_every_unknown_name_of_an_expression_is_reported() -> None:
    assert [item.primary.span.column for item in run("${let.a + let.width + let.b}")[1]] == [6, 26]


def test_an_unknown_name_is_reported_even_where_it_is_not_evaluated() -> None:
    assert [item.code for item in run("${1 if true else let.a}")[1]] == ["E0403"]


def test_layer_index_has_no_value_without_a_layer() -> None:
    _, (found,) = run("${layer.index}", Environment())
    assert (found.code, found.help) == ("E0408", "use it in a template, or in the `with` and overrides of a run")


def test_parameters_have_no_value_outside_a_template() -> None:
    _, (found,) = run("${params.x}", Environment())
    assert (found.code, found.help) == ("E0403", "params.* has values within a layer template that declares them")


def test_an_expression_in_a_key_is_refused() -> None:
    diagnostics = Diagnostics()
    resolve(tree("a:\n  - x${1}: 1\n"), Environment(), diagnostics)
    check(tree("a:\n  - x${1}: 1\n"), Environment(), diagnostics)
    assert [(item.code, item.primary.span.column) for item in diagnostics.items] == [("E0409", 5)]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("x: '${1 / let.zero}'", 1, 11),
        ("x: |\n  ${1 /\n    let.zero}\n", 3, 5),
        ("x: >-\n\n   ${ 1\n   / let.zero }\n", 4, 6),
        ("x: ${1\n   / let.zero}\n", 2, 6),
        ('x: "${1 \\\n  / let.zero}"', 1, 4),
        ("x: '${''a'' if 1 / let.zero else 1}'", 1, 4),
        ("y: &e ${1 / let.zero}\nx: *e", 1, 13),
    ],
)
def test_places_are_seen_through_quotes_folds_and_blocks(text: str, line: int, column: int) -> None:
    diagnostics = Diagnostics()
    resolve(tree(text), ENVIRONMENT, diagnostics)
    span = diagnostics.items[0].primary.span
    assert (span.line, span.column) == (line, column)


def test_span_and_written_survive_and_the_rest_of_the_tree_is_untouched() -> None:
    before = tree("a: [1, {b: '${2 * 3}'}]\nc: text\n")
    after = resolve(before, Environment(), Diagnostics())
    assert isinstance(before, Mapping) and isinstance(after, Mapping)
    assert repr(after) == repr(before).replace("value='${2 * 3}'", "value=6")


def test_a_wrong_expression_is_not_judged_a_second_time() -> None:
    diagnostics = Diagnostics()
    root = resolve(tree("x: ${1 / 0}\n"), Environment(), diagnostics)
    assert isinstance(root, Mapping) and is_expression(root.get("x"))
    diagnostics.error("E0203", "x takes an integer", root.entries[0].value.span)
    assert [item.code for item in diagnostics.items] == ["E0405"]


def test_names_that_failed_elsewhere_cause_no_second_error() -> None:
    value, diagnostics = run("${let.bad + 1}", Environment(failed=frozenset({"let.bad"})))
    assert value == "${let.bad + 1}" and diagnostics == []


def test_check_leaves_parameters_and_layers_alone_and_finds_the_rest() -> None:
    diagnostics = Diagnostics()
    node = tree("a: ${params.x + layer.index}\nb: ${let.y}\nc: ${1 +}\nd: ${params.x / 0}\n")
    check(node, Environment(), diagnostics)
    assert [item.code for item in diagnostics.items] == ["E0403", "E0401"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [{b: '${1 + layer.index}'}]", True),
        ("a: ${layer . index}", True),
        ("a: layer.index", False),
        ("a: ${let.layer}", False),
        ("a: ${params.xlayer.index}", False),
    ],
)
def test_mentions_layer(text: str, expected: bool) -> None:
    assert mentions_layer(tree(text)) is expected


def test_names_in_a_subtree() -> None:
    text = "a: ['${let.x + min(model.y, 1)}', '${true}']\nb: ${layer.index}\nc: ${1 +}\n"
    assert names_in(tree(text)) == {"let.x", "model.y", "layer.index"}


def exact(node: tuple[object, ...] | Fraction) -> Fraction:
    """The value of a generated expression by Python's own fractions."""
    if isinstance(node, Fraction):
        return node
    sign, left, right = node
    assert isinstance(left, tuple | Fraction) and isinstance(right, tuple | Fraction)
    one, other = exact(left), exact(right)
    results = {"+": one + other, "-": one - other, "*": one * other, "min": min(one, other), "max": max(one, other)}
    if other != 0:
        results |= {"/": one / other, "//": Fraction(one // other), "%": one % other}
    return results[str(sign)]


def written(node: tuple[object, ...] | Fraction) -> str:
    if isinstance(node, Fraction):
        return f"{float(node)!r}" if node.denominator > 1 else str(int(node))
    sign, left, right = node
    assert isinstance(left, tuple | Fraction) and isinstance(right, tuple | Fraction)
    if sign in ("min", "max"):
        return f"{sign}({written(left)}, {written(right)})"
    return f"({written(left)} {sign} {written(right)})"


NUMBERS = st.integers(-1000, 1000).map(lambda number: Fraction(number, 8))
TREES = st.recursive(
    NUMBERS,
    lambda inner: st.tuples(st.sampled_from(["+", "-", "*", "/", "//", "%", "min", "max"]), inner, inner),
    max_leaves=12,
)


@given(TREES)
def test_arithmetic_agrees_with_fractions(node: tuple[object, ...] | Fraction) -> None:
    value, diagnostics = run(f"${{{written(node)}}}", Environment())
    try:
        expected = exact(node)
    except KeyError:
        assert [item.code for item in diagnostics] == ["E0405"]
        return
    assert isinstance(value, int | float)
    assert value == (int(expected) if expected.denominator == 1 else float(expected))
    assert isinstance(value, int) == (expected.denominator == 1)


@given(st.integers(0, 10**24), st.integers(1, 10**6))
def test_square_roots_are_exact_or_nearest(numerator: int, denominator: int) -> None:
    value, _ = run(f"${{sqrt({numerator} / {denominator})}}")
    assert isinstance(value, int | float)
    assert math.isclose(value, math.sqrt(numerator / denominator), rel_tol=1e-15)
    square, _ = run(f"${{sqrt({numerator} * {numerator} / ({denominator} * {denominator})) * {denominator}}}")
    assert square == numerator


@given(st.text(alphabet="0123456789.+-*/%() <>=!\"'aeifnlt_,maxlet$ndo", max_size=40))
def test_any_text_between_the_braces_gives_a_value_or_a_diagnostic(text: str) -> None:
    scalar = tree("x: '${" + text.replace("'", "''") + "}'")
    diagnostics = Diagnostics()
    root = resolve(scalar, ENVIRONMENT, diagnostics)
    assert isinstance(root, Mapping)
    assert is_expression(root.get("x")) == diagnostics.has_errors


def test_lark_is_not_imported_without_an_expression() -> None:
    program = (
        "import sys; from eulerc.diagnostics import formats, render, suggest;"
        "from eulerc.frontend.compose import load; from eulerc.diagnostics.model import Diagnostics;"
        "load(None, b'model: {d_model: 64}', Diagnostics());"
        "print({'lark', 'json', 'fractions', 'torch', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
