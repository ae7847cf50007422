"""Each form of the textual IR: what it means when read, and that it is how the printer writes it."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from attrs import evolve

from eulerc.diagnostics.model import Diagnostics
from eulerc.ir.core import Block, Dim, Module, Op, StateType, Symbol, TensorType, Value
from eulerc.ir.parser import parse_module
from eulerc.ir.printer import WIDTH, print_module, print_op
from eulerc.ir.span import Span

KESTREL = """\
euler.ir v1 layers

model @kestrel {
  dim d = 2048
  dim h = 16
  dim kv = 4
  dim dh = 128
  dim vocab = 32000

  template @attention(%x: [b, t, d]) {
    %u = norm.rms %x {eps = 1e-6} : [b, t, d]
    %y = mixer.attention %u {n_heads = h, rope = @rope_0} : [b, t, d] carries kv[b, kv, t<=4096, dh]
    %r = add %x, %y : [b, t, d]
    yield %r
  }

  template @recurrent(%x: [b, t, d]) {
    %y, %gate = mixer.branched %x {n_heads = h} : [b, t, d], [b, t, 2] bf16 carries state[b, h, dh], tail[b, d, 3] f32
    yield %y
  }

  rope @rope_0 {theta = 10000.0}
  table @embed_tokens {std = 0.02}

  graph(%ids: [b, t] i64) {
    %e = embed %ids {table = @embed_tokens} : [b, t, d]
    %s = stack %e [@attention, [@recurrent*3, @attention]*6] {share_cache = true} : [b, t, d]
    %logits = unembed %s {table = @embed_tokens} : [b, t, vocab]
    yield %logits
  }
}
"""


def parsed(text: str) -> Module:
    diagnostics = Diagnostics()
    module = parse_module(text, "x.eir", diagnostics)
    assert module is not None, [f"{item.primary.span}: {item.message}" for item in diagnostics.items]
    return module


def in_model(body: str, head: str = "@k") -> Module:
    return parsed(f"euler.ir v1 arch\nmodel {head} {{\n{body}\n}}\n")


def attribute(written: str) -> Any:
    """The value that `written` means, after proving that the printer writes it so."""
    module = in_model(f"dim d = 64\nop {{x = {written}}}\nthing @a\nthing @b")
    assert f"op {{x = {written}}}" in print_module(module)
    return module.model.ops[0]["x"]


def with_attributes(**attributes: Any) -> Module:
    return Module("arch", Op("model", "k", body=Block(ops=(Op("op", attributes=attributes),))))


def test_the_example_of_a_whole_model_prints_as_it_stands() -> None:
    assert print_module(parsed(KESTREL)) == KESTREL


def test_the_example_means_what_it_says() -> None:
    module = parsed(KESTREL)
    attention, recurrent = module.all("template")
    d = Dim("d", 2048)
    x = Value("x", TensorType(("b", "t", d)))
    assert (module.stage, module.model.symbol, attention.symbol) == ("layers", "kestrel", "attention")
    assert attention.body is not None and attention.body.arguments == (x,)
    assert attention.ops[0] == Op("norm.rms", None, (x,), {"eps": 1e-6}, (Value("u", x.type),))
    assert attention.ops[1].carries == (StateType("kv", ("b", 4, "t<=4096", 128)),)
    assert recurrent.ops[0].results[1] == Value("gate", TensorType(("b", "t", 2), "bf16"))
    assert recurrent.ops[0].carries[1] == StateType("tail", ("b", 2048, 3), "f32")
    stack = module.one("graph").ops[1]
    assert stack["schedule"] == [Symbol("attention"), *([Symbol("recurrent")] * 3 + [Symbol("attention")]) * 6]
    assert stack["share_cache"] is True


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("18446744073709551615", 2**64 - 1),
        ("1.0", 1.0),
        ("1e-6", 1e-6),
        ("1e22", 1e22),
        ("1.5e-300", 1.5e-300),
        ("-0.5", -0.5),
        ("inf", inf),
        ("-inf", -inf),
        ("true", True),
        ("false", False),
        ("null", None),
        ('"silu"', "silu"),
        ('"a \\"b\\" \\\\ \\n # { é"', 'a "b" \\ \n # { é'),
        ('"\\u202e\\u200b\\udb40\\udc01"', "\u202e\u200b\U000e0001"),
        ("@a", Symbol("a")),
        ("d", Dim("d", 64)),
        ("[]", []),
        ("[1, 2]", [1, 2]),
        ("[0.5*2]", [0.5, 0.5]),
        ("[d*3, 1]", [64, 64, 64, 1]),
        ("[[@a*3, @b]*2]", ["a", "a", "a", "b"] * 2),
        ("[[1, 2], [3]]", [[1, 2], [3]]),
        ("[[[1, 2]]*3]", [[1, 2], [1, 2], [1, 2]]),
        ("{}", {}),
        ('{k = 1, "two words" = [true], a.b = {c = null}}', {"k": 1, "two words": [True], "a.b": {"c": None}}),
        ("[{k = 1}*2]", [{"k": 1}, {"k": 1}]),
    ],
)
def test_each_kind_of_value(written: str, value: Any) -> None:
    found = attribute(written)
    assert found == value
    assert type(found) is type(value)


def test_repetitions_may_be_written_in_other_ways_than_the_printer_does() -> None:
    module = in_model("op {x = [1, 1, [2]*1, [[3, 3]*2]*2,]}")
    assert module.model.ops[0]["x"] == [1, 1, 2] + [3] * 8


def test_dims_are_resolved_in_attributes_and_types_and_the_rest_is_known_at_run_time() -> None:
    module = in_model("dim w = 64\n%a = op {x = w} : [w, t, t<=w]")
    op = module.model.ops[0]
    assert (op["x"].name, int(op["x"])) == ("w", 64)
    assert [type(extent) for extent in op.results[0].type.dims] == [Dim, str, str]


def test_dims_are_declared_by_use_and_in_the_order_of_use() -> None:
    module = in_model("dim unused = 1\ndim a = 2\ndim b2 = 3\nop {x = b2, y = a}")
    assert "dim b2 = 3\n  dim a = 2\n\n  op" in print_module(module)
    assert "unused" not in print_module(module)


def test_a_dim_with_two_sizes_is_written_as_numbers() -> None:
    text = print_module(with_attributes(x=Dim("h", 4), y=Dim("h", 8), z=Dim("d", 2)))
    assert "{x = 4, y = 8, z = d}" in text
    assert "dim h" not in text


def test_words_of_the_language_can_be_names_where_they_cannot_be_mistaken() -> None:
    module = in_model("dim dim = 3\ncarries {dim = dim, true = true, loc = 1}\nloc\ntrue @true")
    carries, loc, true = module.model.ops
    assert carries.attributes == {"dim": 3, "true": True, "loc": 1}
    assert (loc.name, true.symbol) == ("loc", "true")
    assert parsed(print_module(module)) == module


def test_names_of_any_characters_are_quoted() -> None:
    module = in_model('%"two words" = op @"a b" : []\nop %"two words" {x = @"a b", y = @gpt-2.1}\nop @gpt-2.1')
    assert module.model.ops[1].operands[0].name == "two words"
    assert module.model.ops[1]["x"] == "a b"
    assert '%"two words" = op @"a b" : []' in print_module(module)
    assert parsed(print_module(module)) == module


def test_a_nested_body_sees_the_values_around_it_and_may_hide_them() -> None:
    text = "scan(%x: [t]) {\n%a = op %x : [t]\ninner(%x: [b]) {\nop %a, %x\n}\nop %x\n}"
    scan = in_model(text).model.ops[0]
    inner_use = scan.ops[1].ops[0]
    assert [value.type.dims for value in inner_use.operands] == [("t",), ("b",)]
    assert scan.ops[2].operands[0].type.dims == ("t",)


def test_a_body_and_results_stand_in_one_op() -> None:
    module = in_model("%y = loop(%x: [t]) {steps = 4} {\nyield %x\n} : [t] carries memory[d]")
    text = print_module(module)
    assert "  %y = loop(%x: [t]) {steps = 4} {\n    yield %x\n  } : [t] carries memory[d]\n" in text


def test_an_empty_body_is_not_the_same_as_none() -> None:
    module = in_model("a {}\nb\nc {}")
    assert [op.body for op in module.model.ops] == [Block(), None, Block()]
    assert parsed(print_module(module)) == module


def test_symbols_may_be_used_above_their_op_and_from_the_models_own_attributes() -> None:
    module = in_model("use {x = @late}\nlate @late", head="@k {final = @late}")
    assert module.model["final"] == "late"


def test_comments_blank_lines_and_free_line_breaks_mean_nothing() -> None:
    loose = """# before

euler.ir v1 arch # stage\r


model @k { # here

  op {  # attributes
    x = [1,

      2], # items
  }
}
# end"""
    assert parsed(loose) == parsed("euler.ir v1 arch\nmodel @k {\nop {x = [1, 2]}\n}")


def test_long_lines_break_their_attributes_one_a_line() -> None:
    names = [f"attribute_{index:02}" for index in range(8)]
    text = print_module(with_attributes(**dict.fromkeys(names, 1)))
    assert "\n  op {\n    attribute_00 = 1,\n" in text
    assert text.endswith("    attribute_07 = 1,\n  }\n}\n")


def test_long_lists_fill_the_lines() -> None:
    text = print_module(with_attributes(factors=[index / 7 for index in range(64)], name="x"))
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "    factors = [" in lines
    assert len(lines) < 30
    assert parsed(text) == with_attributes(factors=[index / 7 for index in range(64)], name="x")


def test_long_schedules_break_where_the_op_has_nothing_else_to_break() -> None:
    module = in_model("op [" + ", ".join(str(index) for index in range(60)) + "]")
    lines = print_module(module).splitlines()
    assert lines[3] == "  op ["
    assert max(map(len, lines)) <= WIDTH


def test_a_line_breaks_only_past_the_width() -> None:
    def widest(text: str) -> int:
        return max(map(len, print_module(with_attributes(name=text)).splitlines()))

    fits = WIDTH - len('  op {name = ""}')
    assert widest("x" * fits) == WIDTH
    assert "op {\n" in print_module(with_attributes(name="x" * (fits + 1)))


def test_blank_lines_stand_around_ops_with_bodies_only() -> None:
    text = print_module(in_model("a\nb {\nc\n}\nd\ne\nf {}"))
    assert text.partition("\n\n")[2] == "model @k {\n  a\n\n  b {\n    c\n  }\n\n  d\n  e\n\n  f {}\n}\n"


def test_places_are_written_on_request_and_read_back() -> None:
    op = Op("op", span=Span("spec.yaml", 14, 5, 14, 9))
    wide, narrow = (evolve(op, span=Span("spec.yaml", 1, 2, *end)) for end in ((3, 4), (1, 3)))
    module = Module("arch", Op("model", "k", body=Block(ops=(op, wide, narrow)), span=op.span))
    text = print_module(module, locs=True)
    assert [line.strip() for line in text.splitlines() if "loc" in line] == [
        'op loc("spec.yaml":14:5..9)',
        'op loc("spec.yaml":1:2..3:4)',
        'op loc("spec.yaml":1:2)',
        '} loc("spec.yaml":14:5..9)',
    ]
    assert [inner.span for inner in parsed(text).model.walk()] == [inner.span for inner in module.model.walk()]
    assert "loc" not in print_module(module)


def test_without_a_place_spans_point_into_the_text() -> None:
    module = parsed(
        'euler.ir v1 arch\nmodel @k {\n  %a = op @s {x = [1, 2], y = {z = "w"}} : []\n  op [1] {b = 2}\n}\n'
    )
    first, second = module.model.ops
    assert first.span == Span("x.eir", 3, 8, 3, 13)
    assert first.spans == {
        "x": Span("x.eir", 3, 19, 3, 25),
        "y": Span("x.eir", 3, 31, 3, 40),
        "y.z": Span("x.eir", 3, 36, 3, 39),
    }
    assert second.where("schedule") == Span("x.eir", 4, 6, 4, 9)


def test_annotations_end_the_first_line_of_their_op() -> None:
    module = in_model("t @t(%x: [b]) {\nyield %x\n}\nop")
    template, op = module.model.ops
    text = print_module(module, annotations={id(template): "12 parameters", id(op): "two\nlines"})
    assert "  t @t(%x: [b]) {  # 12 parameters\n" in text
    assert "  op  # two lines\n" in text
    assert parsed(text) == module


def test_one_op_prints_on_one_line_whatever_it_holds() -> None:
    op = in_model("dim d = 64\n%y = loop(%x: [t, d]) {steps = 4} {\nyield %x\n} : [t, d]").model.ops[0]
    assert print_op(op) == "%y = loop(%x: [t, d]) {steps = 4} { ... } : [t, d]"
    unprintable: Any = {1, 2}
    assert print_op(Op("op", attributes={"x": unprintable})) == "op {x = ?{1, 2}}"
