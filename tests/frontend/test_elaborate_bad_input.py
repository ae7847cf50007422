"""Hostile specs end in diagnostics, never in an exception; what lints clean compiles to Python that parses."""

from __future__ import annotations

import ast
import copy
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eulerc.api import Linted, lint
from eulerc.backends.hf.build import Options, text_files
from eulerc.diagnostics.render import render
from tests.generic.builds import VARIANTS

PARSED: dict[str, Any] = {name: yaml.safe_load(text) for name, text in VARIANTS.items()}
SECONDS = 10
"""Bound on one run: about a hundred times what a sound spec takes, for machines that do other things besides."""

HOSTILE_TEXT = (
    "",
    " ",
    "class",
    "None",
    "__init__",
    "self",
    'a"b',
    "it's",
    "two\nlines",
    'x"""\nimport os\n"""',
    "\\",
    "{0}",
    "%s",
    "${",
    "${}",
    "${1/0}",
    "${let.nothing}",
    "${129/2}",
    "${layer.index}",
    "${params.x}",
    "ｆｕｌｌ",
    "Ьаѕе",
    "\u202eright",
    "../up",
    "-",
    "0",
    "null",
    "x" * 5000,
)
HOSTILE_NUMBERS = (-1, 0, 1, 2, 3, 7, 2**31, 2**40, 2**63, 2**200, -(2**70), 0.0, -0.5, 1e-320, 1e-5, 4.9, 1e308)
NESTED = ([], {}, [[]], [None], [1, "a", {}], {"type": "x"}, {"a": {"b": [{"c": None}]}}, [{"template": "block"}])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(HOSTILE_NUMBERS),
    st.sampled_from(HOSTILE_TEXT),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
junk = st.one_of(scalars, st.sampled_from(NESTED), st.lists(scalars, max_size=3))
WORDS = sorted(
    {word for spec in PARSED.values() for word in json.dumps(spec).replace('"', " ").split() if word.isidentifier()}
)
keys = st.one_of(st.sampled_from(WORDS), st.sampled_from(HOSTILE_TEXT[:24]), st.text(max_size=6))


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every node below the root."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in pairs:
        yield (*path, key)
        yield from places(child, (*path, key))


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def mutate(spec: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """One change in place: a value replaced, moved or nested, a key deleted, renamed or added."""
    found = list(places(spec))
    if not found:
        return
    *parents, key = draw(st.sampled_from(found))
    parent = at(spec, tuple(parents))
    change = draw(st.sampled_from(("replace", "replace", "replace", "delete", "add", "rename", "move", "nest")))
    if change == "replace":
        parent[key] = copy.deepcopy(draw(junk))
    elif change == "delete":
        del parent[key]
    elif change == "add" and isinstance(parent, dict):
        parent[draw(keys)] = copy.deepcopy(draw(junk))
    elif change == "rename" and isinstance(parent, dict):
        parent[draw(keys)] = parent.pop(key)
    elif change == "move":
        parent[key] = copy.deepcopy(at(spec, draw(st.sampled_from(found))))
    else:
        parent[key] = draw(st.sampled_from(([parent[key]], {"type": parent[key]}, [parent[key], parent[key]])))


@st.composite
def mutated(draw: Any) -> tuple[str, Any]:
    """The name of a variant, and its data after one to four changes."""
    name = draw(st.sampled_from(sorted(PARSED)))
    spec = copy.deepcopy(PARSED[name])
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 4)))):
        mutate(spec, draw)
    return name, spec


def checked(text: str) -> Linted:
    """Lints in bounded time; what is sound must come out as Python that parses."""
    started = time.process_time()
    result = lint("spec.yaml", text.encode("utf-8", "surrogatepass"))
    assert render(result.diagnostics, result.texts) is not None
    assert time.process_time() - started < SECONDS
    assert result.ok == all(item.severity != "error" for item in result.diagnostics)
    if result.module is not None and result.loaded is not None:
        files = text_files(result.module, result.loaded, Options(tokenizer=False))
        for name, data in files.items():
            if name.endswith(".py"):
                compile(data.decode(), name, "exec")
    return result


@settings(deadline=None, max_examples=250, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_mutated_specs_end_in_diagnostics_or_in_code_that_compiles(case: tuple[str, Any]) -> None:
    _, spec = case
    checked(json.dumps(spec))
