"""`ffn.parallel`: several feed-forward networks side by side."""

from __future__ import annotations

from eulerc.ir.definition import Definition, register
from eulerc.ir.fields import Block, Choice, Field, Named
from eulerc.ir.norms import NORM_FIELDS

BRANCH_FIELDS: dict[str, Field] = {
    "input": Field(
        Choice(
            meanings={
                "normed": "what the sublayer reads",
                "stream": "the residual stream, past the norm before the sublayer (Gemma 4's experts)",
            }
        ),
        "What the branch reads.",
        "normed",
    ),
    "before": Field(Block(fields=NORM_FIELDS), "Norm before the branch, of its own; none if not set.", None),
    "after": Field(Block(fields=NORM_FIELDS), "Norm on the branch's output, before the sum; none if not set.", None),
}
"""What a branch says besides its feed-forward network."""


@register
class ParallelFFN(Definition):
    """The sum of several feed-forward networks, each with norms of its own if it likes (Arctic, Gemma 4)."""

    name = "ffn.parallel"
    portable = True
    axis, yaml_type = "ffn", "parallel"
    stages = frozenset({"arch"})

    branches = Field(Named(), "The networks by name, two or more, each with the keys of its type.")


@register
class Branch(Definition):
    """One network of `ffn.parallel`, by its name."""

    name = "branch"
    portable = True
    stages = frozenset({"arch"})
    implicit = {"input": "normed"}
