"""Two linted sources brought together: in the words of their specs where both have them."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from eulerc.api import Linted, compile
from eulerc.compare.changes import Difference, difference, is_same_model
from eulerc.compare.design import graph_design, written_design
from eulerc.compare.numbers import Number, common_length, numbers
from eulerc.diagnostics.model import Diagnostics
from eulerc.ir.core import Module


@frozen
class Comparison:
    """What differs between two sources, and their numbers at a length."""

    old_source: str
    new_source: str
    found: Difference
    numbers: Sequence[Number]
    length: int

    @property
    def is_same_model(self) -> bool:
        return self.found.is_same_model


def compare(old: Linted, new: Linted, length: int | None = None) -> Comparison:
    """Compares two sources that compile; the length is by default the longest that both are meant for."""
    modules = (_module(old), _module(new))
    graphs = tuple(map(graph_design, modules))
    written = [written_design(module) for module in map(_written, (old, new)) if module is not None]
    before, after = written if len(written) == 2 else graphs
    length = length or common_length(*modules)
    found = difference(before, after, same=is_same_model(*graphs))
    return Comparison(_name(old), _name(new), found, numbers(*modules, length), length)


def _module(result: Linted) -> Module:
    if result.compiled is None:
        raise ValueError("a source with errors cannot be compared")
    return result.compiled


def _written(result: Linted) -> Module | None:
    """Stage `arch`, unless the source is past it."""
    module = None if result.loaded is None else compile(result.loaded, Diagnostics(), "arch")
    return module if module is not None and module.stage == "arch" else None


def _name(result: Linted) -> str:
    return "" if result.loaded is None else result.loaded.name
