"""Memories: what a model with some generates with."""

from __future__ import annotations

from eulerc.backends.hf.emit.facts import Model
from eulerc.backends.hf.link import Request
from eulerc.ir.memories import is_persistent

GENERATION = ("MemoryGenerationMixin", "QueryMemoryGenerationMixin", "PersistentMemoryGenerationMixin")
"""The classes by which a caller handles memories: the first, or those that are based on it."""


def memory_mixins(model: Model) -> list[str]:
    """Those of these classes that a model takes: none where no memory learns in use."""
    learning = [op for op in model.memories if op["update_at_inference"]]
    base, by_query, persistent = GENERATION
    found = [by_query] if any(op["persistence"] == "per_query" for op in learning) else []
    found += [persistent] if any(map(is_persistent, learning)) else []
    return found or ([base] if learning else [])


def memory_requests(model: Model) -> list[Request]:
    """The components of these classes."""
    names = memory_mixins(model)
    if not names:
        return []
    rename = {name: f"{model.prefix}{name}" for name in GENERATION}
    facts = {"shared_module": model.shares_modules}
    return [Request("memory_generation", tuple(names), facts=facts, rename=rename)]
