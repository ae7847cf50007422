"""Hypothesis strategies for modules of the IR: well-formed, with every syntax form, of no particular op."""

from __future__ import annotations

from string import ascii_letters, digits

from attrs import evolve, frozen
from hypothesis import strategies as st

from eulerc.ir.core import Block, Dim, Module, Op, StateType, Symbol, TensorType, Value
from eulerc.ir.span import NOWHERE, Span
from eulerc.ir.text import LARGEST_INTEGER, SMALLEST_INTEGER, STAGES

DTYPES = (None, "i64", "float32", "dim")
# Words of the language stand among the names wherever it allows them.
WORDS = ("add", "norm.rms", "mixer.attention", "true", "inf", "loc", "carries", "x.2", "euler.ir")
KEYS = (*WORDS, "dim", "d", "two words", "é", "")
SYMBOLS = ("attention", "rope_0", "gpt-2.1", "0", "two words", 'say "é"\n', "")

runtime_extents = st.sampled_from(("b", "t", "t<=4096", "t/8", "s+1")) | st.integers(0, 9999)
names = st.text(ascii_letters + digits + "_.", min_size=1, max_size=6) | st.text(max_size=3)
keys = st.sampled_from(KEYS)
spans = st.builds(
    lambda source, line, column, lines, columns: Span(source, line, column, line + lines, column + columns),
    st.sampled_from(("spec.yaml", 'a "b".yaml')),
    *[st.integers(1, 300)] * 2,
    *[st.integers(0, 40)] * 2,
)
scalars = st.one_of(
    st.sampled_from((None, True, False, 0, 1, -1, 0.0, 1.0, -0.0, 1e-6, 1e22, -1.5e-300, "", "add", "h", "@h", "# {")),
    st.integers(SMALLEST_INTEGER, LARGEST_INTEGER),
    st.floats(allow_nan=False),
    st.text(max_size=8),
)


def repetitive_lists(elements: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    """Lists over two elements, in runs and in stretches that come again."""
    runs = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 5)), min_size=1, max_size=4)

    def build(pair: tuple[object, object], runs: list[tuple[int, int]], count: int) -> list[object]:
        return [pair[index] for index, length in runs for _ in range(length)] * count

    return st.builds(build, st.tuples(elements, elements), runs, st.integers(1, 4))


def attribute_values(leaves: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    flat = leaves | st.lists(leaves, max_size=3) | repetitive_lists(leaves) | st.dictionaries(keys, leaves, max_size=3)
    return flat | st.lists(flat, max_size=2) | repetitive_lists(flat) | st.dictionaries(keys, flat, max_size=2)


@frozen
class Vocabulary:
    """What the ops of one module may speak of: its dims and symbols, and the strategies made of them."""

    symbols: tuple[str, ...]
    extents: st.SearchStrategy[tuple[Dim | int | str, ...]]
    types: st.SearchStrategy[TensorType]
    states: st.SearchStrategy[StateType]
    attributes: st.SearchStrategy[dict[str, object]]
    schedules: st.SearchStrategy[list[object]]


def vocabulary(dims: tuple[Dim, ...], symbols: tuple[str, ...]) -> Vocabulary:
    extents = st.lists(st.sampled_from(dims) | runtime_extents if dims else runtime_extents, max_size=4).map(tuple)
    references = st.sampled_from(symbols).map(Symbol) if symbols else st.nothing()
    values = attribute_values(scalars | references | (st.sampled_from(dims) if dims else st.nothing()))
    return Vocabulary(
        symbols,
        extents,
        st.builds(TensorType, extents, st.sampled_from(DTYPES)),
        st.builds(StateType, st.sampled_from(("kv", "conv_tail", "memory.m")), extents, st.sampled_from(DTYPES)),
        st.dictionaries(keys, values, max_size=3),
        repetitive_lists(references) if symbols else st.lists(scalars, max_size=3),
    )


VOCABULARIES = (
    vocabulary((), ()),
    vocabulary((Dim("d", 2048),), SYMBOLS[:2]),
    vocabulary((Dim("h", 1), Dim("kv", 1), Dim("dim", 2**40), Dim("carries", 0)), SYMBOLS),
)
"""Made once: strategies are slow to make, and values that are equal (two dims of size 1) must not be mixed up."""


@st.composite
def modules(draw: st.DrawFn, with_spans: bool = False) -> Module:
    """A module that `eulerc.ir.verify` accepts."""
    words = draw(st.sampled_from(VOCABULARIES))
    places = spans if with_spans else st.just(NOWHERE)
    ops = [draw(operations(words, places, (), 2, symbol)) for symbol in words.symbols]
    ops += draw(st.lists(operations(words, places, (), 1), max_size=2))
    model = draw(operations(words, places, (), 0, draw(st.sampled_from(SYMBOLS))))
    body = Block((), tuple(_with_own_results(op, str(index)) for index, op in enumerate(ops)))
    return Module(draw(st.sampled_from(STAGES)), evolve(model, name="model", body=body))


def _with_own_results(op: Op, place: str) -> Op:
    """Results of neighbours must differ in name; the place of each op in its block makes them so."""
    return evolve(op, results=tuple(evolve(value, name=f"{value.name}.{place}") for value in op.results))


@st.composite
def blocks(
    draw: st.DrawFn, words: Vocabulary, places: st.SearchStrategy[Span], visible: tuple[Value, ...], depth: int
) -> Block:
    """A body whose ops use values of the blocks around it and of their own; its arguments may hide outer ones."""
    arguments = tuple(Value(name, draw(words.types)) for name in draw(st.lists(names, unique=True, max_size=2)))
    scope = {value.name: value for value in (*visible, *arguments)}
    ops: list[Op] = []
    for index in range(draw(st.integers(0, 2))):
        op = draw(operations(words, places, tuple(scope.values()), depth))
        ops.append(_with_own_results(op, f"{depth}.{index}"))
        scope |= {value.name: value for value in ops[-1].results}
    if scope and draw(st.booleans()):
        ops.append(Op("yield", operands=(draw(st.sampled_from(tuple(scope.values()))),)))
    return Block(arguments, tuple(ops))


@st.composite
def operations(
    draw: st.DrawFn,
    words: Vocabulary,
    places: st.SearchStrategy[Span],
    visible: tuple[Value, ...],
    depth: int,
    symbol: str | None = None,
) -> Op:
    """One op; with a body only while `depth` is above 0."""
    attributes = draw(words.attributes)
    if draw(st.booleans()):
        attributes["schedule"] = draw(words.schedules)
    return Op(
        name=draw(st.sampled_from(WORDS)),
        symbol=symbol,
        operands=tuple(draw(st.lists(st.sampled_from(visible), max_size=3))) if visible else (),
        attributes=attributes,
        results=tuple(Value(name, draw(words.types)) for name in draw(st.lists(names, unique=True, max_size=2))),
        body=draw(blocks(words, places, visible, depth - 1)) if depth > 0 and draw(st.booleans()) else None,
        carries=tuple(draw(st.lists(words.states, max_size=2))),
        span=draw(places),
    )
