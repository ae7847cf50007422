"""What the families state is complete: every key of a case is taken out of the spec by some feature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.families.catalogue import FAMILIES
from tests.families.harness import Family

SIZES = {
    *("d_model", "vocab_size", "max_seq_len", "n_heads", "n_kv_heads", "head_dim", "intermediate_size", "mlp_ratio"),
    *("chunk_size", "experts", "expert_size", "kv_rank", "q_rank", "nope_dim", "rope_dim", "v_dim"),
}
"""Sizes, which the layout of the tensors proves."""

GIVEN = {"schema_version", "layer_schedule", "name", "dtype", "type", "template", "pattern", "repeat", "layers"}
"""What every spec has, and the words that the rest of a block hangs on."""

DEFAULTS = {"positional": "rope", "partial": 1.0, "tie_weights": False, "load_balance_coef": 0.0} | dict.fromkeys(
    ("qkv_bias", "out_bias", "bias"), False
)
"""Values that leave something out, and so cannot be taken out."""


def stated(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all that a spec says on its own account, with any name for templates."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from stated(value, (*path, "*" if path == ("layer_templates",) else key))
        elif key not in SIZES | GIVEN and not (key in DEFAULTS and value == DEFAULTS[key]):
            yield (*path, key)


def takes_out(edit: str, path: tuple[str, ...]) -> bool:
    """Whether an edit replaces the value at a path, what holds it, or something within it."""
    parts = [
        "*" if index == 1 and edit.startswith("layer_templates") else part for index, part in enumerate(edit.split("."))
    ]
    return all(one == other for one, other in zip(parts, path, strict=False))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_key_of_a_case_is_taken_out_by_a_feature(family: Family) -> None:
    relatives = [other for other in FAMILIES if other.model == family.model]
    edits = [edit for other in relatives for feature in other.features for edit in feature.edits]
    paths = {path for case in family.cases.values() for path in stated(case.spec)}
    assert [path for path in sorted(paths) if not any(takes_out(edit, path) for edit in edits)] == []
