"""Random programs in the form of a component: trees of branches on facts and on run-time flags, with comments.

Every statement that counts appends a number of its own to `trace` and has a comment with that number right above.
"""

from __future__ import annotations

from itertools import count

from hypothesis import strategies as st

FACT_VALUES: dict[str, list[object]] = {
    "bias": [False, True],
    "norm": [None, "head", "full"],
    "groups": [0, 1, 4],
    "window": [None, 7],
}

ATOMS = [
    "config.bias",
    "self.config.bias",
    'config.norm == "head"',
    'config.norm != "full"',
    'config.norm in ("head", "full")',
    "config.norm is not None",
    "config.groups > 1",
    "0 < config.groups <= 4",
    "config.groups not in (1, 2)",
    "config.window is None",
    "config.window is not None",
    "self.first",
    "self.second",
    "self.first is not self.second",
]

VALUES = ["config.bias", "config.norm", "self.config.groups", "self.first"]

tests = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        inner.map(lambda test: f"not ({test})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.lists(inner, min_size=3, max_size=3).map(" and ".join).map("({})".format),
    ),
    max_leaves=5,
)

Lines = list[str]


def indented(lines: Lines) -> Lines:
    return ["    " + line for line in lines]


leaves = st.one_of(
    st.just(["trace.append(N)"]),
    st.just(["# N", "trace.append(N)"]),
    st.sampled_from(VALUES).map(lambda value: [f"trace.append({value})"]),
    st.sampled_from(VALUES).map(lambda value: [f"copy = {value}", "trace.append(copy)"]),
    st.tuples(tests, st.sampled_from(VALUES), st.sampled_from(VALUES)).map(
        lambda parts: [f"trace.append({parts[1]} if {parts[0]} else {parts[2]})"]
    ),
    st.tuples(tests, tests).map(
        lambda parts: ["trace.append(", f"    1 if {parts[0]} else (2 if {parts[1]} else 3),", ")"]
    ),
    st.just(["return trace"]),
    st.just(['trace.append("""', "  text", '""")']),
)


@st.composite
def branches(draw: st.DrawFn, inner: st.SearchStrategy[Lines]) -> Lines:
    lines = [f"if {draw(tests)}:", *indented(draw(inner))]
    for _ in range(draw(st.integers(0, 2))):
        lines += [f"elif {draw(tests)}:", *indented(draw(inner))]
    if draw(st.booleans()):
        lines += ["else:", *indented(draw(inner))]
    return lines


def loops(inner: st.SearchStrategy[Lines]) -> st.SearchStrategy[Lines]:
    return st.tuples(inner, st.sampled_from([[], ["break"], ["continue"]])).map(
        lambda parts: ["for _ in range(2):", *indented(parts[0] + parts[1])]
    )


def suites(inner: st.SearchStrategy[Lines]) -> st.SearchStrategy[Lines]:
    compound = st.one_of(branches(inner), branches(inner), loops(inner))
    return st.tuples(compound, st.one_of(inner, st.just([])), st.booleans()).map(
        lambda parts: parts[0] + [""] * parts[2] * bool(parts[1]) + parts[1]
    )


@st.composite
def programs(draw: st.DrawFn) -> str:
    """The source of a class whose method `forward` returns its trace."""
    body = draw(st.recursive(leaves, suites, max_leaves=12))
    numbers = count(100)
    lines: Lines = []
    number = 0
    for line in body:
        if "# N" in line or ("(N)" in line and not (lines and lines[-1].lstrip() == f"# {number}")):
            number = next(numbers)
        lines.append(line.replace("N", str(number)) if "# N" in line or "(N)" in line else line)
    head = ["class Program:", "    def forward(self, config):", "        trace = []"]
    return "\n".join([*head, *indented(indented(lines)), "        return trace"]) + "\n"
