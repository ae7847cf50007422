"""Hostile specs end in diagnostics, never in an exception; what lints clean compiles to Python that parses."""

from __future__ import annotations

import ast
import copy
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eulerc import reference
from eulerc.api import Linted, lint
from eulerc.backends.hf.build import Options, text_files
from eulerc.diagnostics.render import render
from eulerc.ir.fields import Block, Choice, Either, Flag, Integer, Kind, ListOf, Number
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
KEYS = reference.keys()
WORDS = sorted({word for spec in PARSED.values() for word in re.findall(r"[a-z_]\w*", json.dumps(spec))})
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


def like(value: Any) -> st.SearchStrategy[Any]:
    """Other values of the same kind, most of them plausible."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.one_of(st.integers(0, 130), st.sampled_from(HOSTILE_NUMBERS))
    if isinstance(value, float):
        return st.one_of(st.floats(0, 100), st.sampled_from(HOSTILE_NUMBERS))
    if isinstance(value, str):
        return st.one_of(st.sampled_from(WORDS), st.sampled_from(HOSTILE_TEXT), st.text(max_size=8))
    return st.just(copy.deepcopy(value))


def of_kind(kind: Kind) -> st.SearchStrategy[Any]:
    """Values that a key takes, most of them plausible."""
    if isinstance(kind, Either):
        return st.one_of([of_kind(each) for each in kind.kinds])
    if isinstance(kind, ListOf):
        return st.lists(of_kind(kind.item), max_size=3)
    if isinstance(kind, Block):
        return st.fixed_dictionaries({name: of_kind(f.kind) for name, f in kind.fields.items() if f.required})
    if isinstance(kind, Choice):
        return st.sampled_from(sorted(kind.meanings))
    if isinstance(kind, Flag):
        return st.booleans()
    sizes = (1, 2, 4, 8, 16, 0.5, 64, *HOSTILE_NUMBERS)
    return st.sampled_from(sizes) if isinstance(kind, Integer | Number) else st.sampled_from(WORDS)


def put(spec: Any, path: str, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Sets one key of the language, in every template or run if it belongs to those."""
    top, *parents, key = path.split(".")
    templates = list((spec.get("layer_templates") or {}).values())
    blocks = {"layer_schedule[]": spec.get("layer_schedule") or []}
    blocks |= {axis: [body.setdefault(axis, {}) for body in templates] for axis in ("mixer", "ffn", "norm", "residual")}
    value = draw(of_kind(KEYS[path].kind))
    for block in blocks.get(top, [spec.setdefault(top, {})] if top not in blocks else []):
        for name in parents:
            block = block.setdefault(name, {})
        block[key] = copy.deepcopy(value)


def mutate(spec: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """One change in place: a value set, replaced, moved or nested, a key deleted, renamed or added."""
    found = list(places(spec))
    *parents, key = draw(st.sampled_from(found))
    parent = at(spec, tuple(parents))
    change = draw(st.sampled_from((*("nudge",) * 4, *("set",) * 6, "replace", "delete", "add", "rename", "move", "nest")))
    if change == "set":
        put(spec, draw(st.sampled_from(sorted(KEYS))), draw)
    elif change == "nudge":
        parent[key] = draw(like(parent[key]))
    elif change == "replace":
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
        # A change that what an earlier one left has no place for is no change.
        with suppress(AttributeError, TypeError, IndexError, KeyError):
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
