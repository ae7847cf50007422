"""Memories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from eulerc.ir.definition import by_axis
from eulerc.ir.fields import Field

LEARNS = ("layer_templates", "block", "memory", "update_at_inference")

DRAWN = {"join": st.sampled_from(["gate", "add"])}
TRIED = {"params": [{"hidden": 32}, {"slots": 16}, {"top_k": 8}]}
NEEDED = {("memory", word, "persistence"): {LEARNS: True} for word in by_axis("memory")}

HIDDEN = {"hidden": st.sampled_from([8, 12])}
OF_PAIRS = st.fixed_dictionaries(HIDDEN, optional={"slots": st.just(8), "top_k": st.just(3)})
SIZES = {
    "inner_lr": st.sampled_from([0.01, 0.1]),
    # A sequence that ends within its first chunk teaches nothing that is read
    "chunk_size": st.just(3),
    "params": st.fixed_dictionaries(HIDDEN),
}
"""By key of a memory: what suits a tiny model, as large rates and the widths by default do not."""


@st.composite
def memories(draw: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The keys of a memory with these fields."""
    words = {name: st.sampled_from(field.kind.samples()) for name, field in fields.items() if name not in SIZES}
    written = [name for name in fields if name in ("params", "chunk_size") or draw(st.booleans())]
    sizes = {**SIZES, "params": SIZES["params"] if "inner_lr" in fields else OF_PAIRS}
    return {name: draw(words.get(name, sizes.get(name))) for name in written}
