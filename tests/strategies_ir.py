"""Hypothesis strategies for modules of the IR: well-formed, with every syntax form, of no particular op."""

from __future__ import annotations

from string import ascii_letters, digits

from attrs import evolve
from hypothesis import strategies as st

from eulerc.ir.core import Block, Dim, Module, Op, StateType, Symbol, TensorType, Value
from eulerc.ir.span import NOWHERE, Span
from eulerc.ir.text import LARGEST_INTEGER, SMALLEST_INTEGER, STAGES

RUNTIME_EXTENTS = ("b", "t", "t<=4096", "t/8", "s+1")
DIM_NAMES = ("d", "h", "kv", "dh", "vocab", "dim", "loc", "carries", "e2")
DTYPES = (None, "i64", "float32", "dim")
WORDS = ("add", "yield_", "norm.rms", "mixer.attention", "true", "inf", "loc", "carries", "x.2", "euler.ir")
SYMBOLS = ("attention", "rope_0", "gpt-2.1", "0", "two words", 'say "é"\n', "")

plain_names = st.text(ascii_letters + digits + "_.", min_size=1, max_size=6).map(lambda name: "v" + name)
names = plain_names | st.text(max_size=4)
spans = st.builds(
    lambda source, line, column, lines, columns: Span(source, line, column, line + lines, column + columns),
    st.sampled_from(("spec.yaml", 'a "b".yaml')),
    *[st.integers(1, 300)] * 2,
    *[st.integers(0, 40)] * 2,
)


def extents(dims: tuple[Dim, ...]) -> st.SearchStrategy[tuple[Dim | int | str, ...]]:
    """Shapes of named, plain and run-time dimensions."""
    extent = st.sampled_from((*dims, *RUNTIME_EXTENTS)) | st.integers(0, 9999)
    return st.lists(extent, max_size=4).map(tuple)


def attribute_values(dims: tuple[Dim, ...], symbols: tuple[str, ...]) -> st.SearchStrategy[object]:
    """Values of attributes, among them lists with something to re-roll."""
    leaves = [
        st.none() | st.booleans() | st.integers(SMALLEST_INTEGER, LARGEST_INTEGER) | st.integers(0, 2),
        st.floats(allow_nan=False) | st.sampled_from((0.0, 1.0, 1e-6, 1e22, -1.5e-300)),
        st.text(max_size=8) | st.sampled_from(WORDS),
    ]
    if dims:
        leaves.append(st.sampled_from(dims))
    if symbols:
        leaves.append(st.sampled_from(symbols).map(Symbol))
    keys = st.sampled_from((*WORDS, *DIM_NAMES)) | st.text(max_size=4)
    return st.recursive(
        st.one_of(leaves),
        lambda inner: st.lists(inner, max_size=4) | repetitive_lists(inner) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=8,
    )


def repetitive_lists(elements: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    """Lists over an alphabet of two or three elements, often in runs and repeated stretches."""

    def of(alphabet: list[object]) -> st.SearchStrategy[list[object]]:
        item = st.sampled_from(alphabet)
        stretch = st.builds(
            lambda items, count: items * count, st.lists(item, min_size=1, max_size=4), st.integers(1, 4)
        )
        return st.builds(
            lambda parts, count: [item for part in parts for item in part] * count,
            st.lists(stretch, min_size=1, max_size=3),
            st.integers(1, 3),
        )

    return st.lists(elements, min_size=1, max_size=3).flatmap(of)


@st.composite
def modules(draw: st.DrawFn, with_spans: bool = False) -> Module:
    """A module that `eulerc.ir.verify` accepts."""
    dim_names = draw(st.lists(st.sampled_from(DIM_NAMES), unique=True, max_size=4))
    dims = tuple(Dim(name, draw(st.integers(0, 2**40))) for name in dim_names)
    symbols = tuple(draw(st.lists(st.sampled_from(SYMBOLS), unique=True, max_size=4)))
    ops = [draw(operations(dims, symbols, (), symbol, 2, with_spans)) for symbol in symbols]
    ops += draw(st.lists(operations(dims, symbols, (), None, 1, with_spans), max_size=2))
    unique = _with_unique_results(ops)
    model = draw(operations(dims, symbols, (), draw(st.sampled_from(SYMBOLS)), 0, with_spans))
    model = evolve(model, name="model", body=Block((), tuple(unique)))
    return Module(draw(st.sampled_from(STAGES)), model)


def _with_unique_results(ops: list[Op]) -> list[Op]:
    """Results of neighbours must differ in name; the place of each op in the block makes them so."""
    return [
        evolve(op, results=tuple(evolve(value, name=f"{value.name}.{index}") for value in op.results))
        for index, op in enumerate(ops)
    ]


@st.composite
def blocks(
    draw: st.DrawFn,
    dims: tuple[Dim, ...],
    symbols: tuple[str, ...],
    visible: tuple[Value, ...],
    depth: int,
    with_spans: bool,
) -> Block:
    """A body whose ops use values of the blocks around it and of their own."""
    types = st.builds(TensorType, extents(dims), st.sampled_from(DTYPES))
    argument_names = draw(st.lists(names, unique=True, max_size=2))
    arguments = tuple(Value(name, draw(types)) for name in argument_names)
    shadowed = {argument.name for argument in arguments}
    scope = [*(value for value in visible if value.name not in shadowed), *arguments]
    ops: list[Op] = []
    for index in range(draw(st.integers(0, 3))):
        op = draw(operations(dims, symbols, tuple(scope), None, depth, with_spans))
        op = evolve(op, results=tuple(evolve(value, name=f"{value.name}.{depth}.{index}") for value in op.results))
        defined = {value.name for value in op.results}
        scope = [*(value for value in scope if value.name not in defined), *op.results]
        ops.append(op)
    if scope and draw(st.booleans()):
        ops.append(Op("yield", operands=(draw(st.sampled_from(scope)),)))
    return Block(arguments, tuple(ops))


@st.composite
def operations(
    draw: st.DrawFn,
    dims: tuple[Dim, ...],
    symbols: tuple[str, ...],
    visible: tuple[Value, ...],
    symbol: str | None,
    depth: int,
    with_spans: bool,
) -> Op:
    """One op; with a body only while `depth` is above 0."""
    types = st.builds(TensorType, extents(dims), st.sampled_from(DTYPES))
    states = st.builds(
        StateType, st.sampled_from(("kv", "conv_tail", "memory.m")), extents(dims), st.sampled_from(DTYPES)
    )
    values = attribute_values(dims, symbols)
    attributes = draw(st.dictionaries(st.sampled_from((*WORDS, *DIM_NAMES)) | st.text(max_size=4), values, max_size=4))
    if draw(st.booleans()):
        schedule = repetitive_lists(st.sampled_from(symbols).map(Symbol)) if symbols else st.lists(values, max_size=3)
        attributes["schedule"] = draw(schedule)
    result_names = draw(st.lists(names, unique=True, max_size=2))
    has_body = depth > 0 and draw(st.booleans())
    return Op(
        name=draw(st.sampled_from(WORDS)),
        symbol=symbol,
        operands=tuple(draw(st.lists(st.sampled_from(visible), max_size=3))) if visible else (),
        attributes=attributes,
        results=tuple(Value(name, draw(types)) for name in result_names),
        body=draw(blocks(dims, symbols, visible, depth - 1, with_spans)) if has_body else None,
        carries=tuple(draw(st.lists(states, max_size=2))),
        span=draw(spans) if with_spans else NOWHERE,
    )
