"""`mixer.branched`: several mixers side by side, and the gate that weighs what they give."""

from __future__ import annotations

from eulerc.ir.core import Op
from eulerc.ir.definition import ClassBinding, Cost, Definition, LocalTensor, linear, register
from eulerc.ir.fields import Block, Choice, Field, Integer, Named, Number
from eulerc.ir.tensors import Init

FACTOR = Number(0, exclusive=True)

BRANCH_FIELDS: dict[str, Field] = {
    "input_scale": Field(FACTOR, "Factor on what the mixer reads (Falcon-H1).", 1.0),
    "output_scale": Field(FACTOR, "Factor on what the mixer gives (Falcon-H1).", 1.0),
}
"""What a branch says besides its mixer."""

SELECTOR_FIELDS: dict[str, Field] = {
    "type": Field(
        Choice(
            meanings={
                "learned_gate": "a softmax over the branches, for each token",
                "top_k": "the same over the best `top_k` of them; the others count nothing",
                "sum": "no gate: the outputs are added (Falcon-H1)",
            }
        ),
        "How the outputs of the branches are joined.",
        "learned_gate",
    ),
    "top_k": Field(Integer(maximum=64), "Branches whose output a token takes; 1 if not set.", None),
    "input": Field(Choice(meanings={"hidden": "what the mixers read"}), "What the gate reads.", "hidden"),
}


@register
class Branched(Definition):
    """Mixers that read the same states, weighed by a gate or added."""

    name = "mixer.branched"
    portable = True
    axis, yaml_type, block = "mixer", "branched", "branched"
    stages = frozenset({"arch"})
    module_name = "selector"
    spelled = {"selector": "mixer.branched.selector.type", "top_k": "mixer.branched.selector.top_k"}

    branches = Field(Named(), "The mixers by name, two or more, each as a template has it.")
    selector = Field(Block(fields=SELECTOR_FIELDS), "How their outputs are joined.", None)


@register
class Select(Definition):
    """The weighted sum of what branches give: weights of a softmax over the branches, or over the best of them."""

    name = "select"
    portable = True
    stages = frozenset({"layers", "module"})
    module_name = "selector"
    implicit = {"top_k": None}

    @classmethod
    def tensors(cls, op: Op, hidden_size: int, std: Init) -> tuple[LocalTensor, ...]:
        return linear("gate", hidden_size, op["branches"], False, std)

    @classmethod
    def cost(cls, op: Op, hidden_size: int) -> Cost:
        return Cost(hidden_size * int(op["branches"]))

    @classmethod
    def binding(cls, op: Op) -> ClassBinding:
        facts = {"selects": cls.option(op, "top_k") is not None}
        return ClassBinding("branch_selector", "BranchSelector", facts)

    @classmethod
    def config_fields(cls, op: Op) -> dict[str, int]:
        fields = {"num_branches": int(op["branches"])}
        return fields if cls.option(op, "top_k") is None else fields | {"num_branches_per_tok": op["top_k"]}
