"""The verifier finds what a pass must not leave behind, and shows where."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest
from attrs import evolve

from eulerc.ir.core import Block, Dim, Module, Op, StateType, Symbol, TensorType, Value
from eulerc.ir.span import Span
from eulerc.ir.text import MAX_DEPTH, MAX_VALUE_DEPTH
from eulerc.ir.verify import VerifyError, verify

TYPE = TensorType(("b", "t", Dim("d", 64)))
KEYED_BY_NUMBER: Any = {1: 2}
X, Y = Value("x", TYPE), Value("y", TYPE)


def module(*ops: Op, **attributes: Any) -> Module:
    return Module("layers", Op("model", "k", attributes=attributes, body=Block(ops=ops)))


def template(*ops: Op) -> Op:
    return Op("template", "block", body=Block((X,), ops))


def nested(depth: int) -> Op:
    op = Op("op")
    for _ in range(depth):
        op = Op("op", body=Block(ops=(op,)))
    return op


def nested_list(depth: int) -> list[Any]:
    return [nested_list(depth - 1)] if depth > 1 else []


def test_a_good_module_passes() -> None:
    norm = Op(
        "norm.rms", operands=(X,), results=(Y,), attributes={"eps": 1e-6, "of": Symbol("late"), "sizes": [{"a": 1}]}
    )
    inner = Op("scan", operands=(Y,), body=Block((Y,), (Op("yield", operands=(Y,)),)))
    good = module(template(norm, inner, Op("yield", operands=(X,))), Op("late", "late"), final=Symbol("late"))
    verify(good)
    verify(good, allowed={"model", "template", "norm.rms", "scan", "yield", "late"})


@pytest.mark.parametrize(
    ("op", "complaint"),
    [
        (template(Op("add", operands=(Y,))), "%y is not defined before its use"),
        (template(Op("add", operands=(Y,)), Op("op", results=(Y,))), "%y is not defined before its use"),
        (template(Op("op", results=(Y,), operands=(Y,))), "%y is not defined before its use"),
        (template(Op("scan", body=Block((Y,))), Op("add", operands=(Y,))), "%y is not defined before its use"),
        (template(Op("add", operands=(evolve(X, type=TensorType(())),))), "%x is used as"),
        (template(Op("op", results=(X,))), "%x is defined twice in its block"),
        (template(Op("op", results=(Y,)), Op("op", results=(Y,))), "%y is defined twice in its block"),
        (template(Op("op", results=(Y, Y))), "%y is defined twice in its block"),
        (Op("op", body=Block((X, X))), "%x is twice an argument"),
        (template(Op("op", "s"), Op("op", "s")), "@s is defined twice in its block"),
        (template(Op("yield"), Op("op")), "`yield` is not the last op of its block"),
        (Op("op", attributes={"a": {"b": [1, Symbol("s")]}}), "attribute `a.b[1]` names @s, which no op defines"),
        (template(Op("op", "s"), Op("use", attributes={"a": Symbol("block")})), ""),
        (Op("op", attributes={"a": [(1, 2)]}), "attribute `a[0]` has a value that is not allowed: (1, 2)"),
        (Op("op", attributes={"a": nan}), "not allowed: nan"),
        (Op("op", attributes={"a": 2**64}), "not allowed: 18446744073709551616"),
        (Op("op", attributes={"a": "\ud800"}), "not allowed: '\\ud800'"),
        (Op("op", attributes={"a": KEYED_BY_NUMBER}), "the key 1 is not a string"),
        (Op("op", attributes={"a": nested_list(MAX_VALUE_DEPTH)}), ""),
        (Op("op", attributes={"a": nested_list(MAX_VALUE_DEPTH + 1)}), "nested more than 16 deep"),
        (nested(MAX_DEPTH - 1), ""),
        (nested(MAX_DEPTH), "ops are nested more than 64 deep"),
        (Op("two words"), "`two words` cannot name an op"),
        (Op("dim"), "`dim` cannot name an op"),
        (Op("op", carries=(StateType("k v", ()),)), "`k v` cannot name a kind of state"),
        (Op("op", carries=(StateType("kv", ("t<",)),)), "'t<' is not a dimension"),
        (Op("op", results=(Value("y", TensorType((True,))),)), "True is not a dimension"),
        (Op("op", results=(Value("y", TensorType((), "loc")),)), "`loc` cannot name a dtype"),
        (Op("op", attributes={"a": Dim("h", 1), "b": [Dim("h", 2)]}), "dim `h` has the sizes 1, 2"),
        (Op("op", attributes={"a": Dim("true", 1)}), "`true` cannot name a dim"),
        (template(Op("op", attributes={"a": Dim("t", 1)})), "`t` is both a dim and a run-time dimension"),
    ],
)
def test_each_rule_is_enforced(op: Op, complaint: str) -> None:
    if not complaint:
        verify(module(op))
        return
    with pytest.raises(VerifyError) as caught:
        verify(module(op))
    assert complaint in str(caught.value).splitlines()[0]


def test_a_symbol_in_another_block_is_not_visible() -> None:
    hidden = Op("op", body=Block(ops=(Op("op", "s"),)))
    with pytest.raises(VerifyError, match="names @s"):
        verify(module(hidden, Op("use", attributes={"a": Symbol("s")})))


def test_ops_that_the_stage_does_not_hold_are_refused() -> None:
    with pytest.raises(VerifyError, match=r"`norm\.rms` is not an op of this stage"):
        verify(module(Op("norm.rms")), allowed={"model"})


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (evolve(module(), stage="layer"), "`layer` is not a stage"),
        (Module("layers", Op("graph", body=Block())), "the outermost op is not a model with a body"),
        (Module("layers", Op("model")), "the outermost op is not a model with a body"),
    ],
)
def test_the_frame_of_a_module_is_checked(broken: Module, complaint: str) -> None:
    with pytest.raises(VerifyError, match=complaint):
        verify(broken)


def test_the_error_shows_the_op_and_its_neighbours_only() -> None:
    bad = Op("add", operands=(X, Y), span=Span("spec.yaml", 3, 4, 3, 5))
    first, before, after, last = (Op(f"op{index}") for index in range(4))
    with pytest.raises(VerifyError) as caught:
        verify(module(template(first, before, bad, after, last)))
    assert caught.value.op is bad
    assert str(caught.value).splitlines() == [
        "%y is not defined before its use",
        "  from spec.yaml:3:4",
        "  op1",
        "> add %x, %y",
        "  op2",
    ]
