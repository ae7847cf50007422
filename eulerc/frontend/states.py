"""The block `state` of a template: what its mixer keeps of a sequence, said and held to."""

from __future__ import annotations

from eulerc.ir.cache_kinds import grows
from eulerc.ir.context import Report, Values
from eulerc.ir.core import Op
from eulerc.ir.definition import definition, is_mixer
from eulerc.ir.fields import Field, Flag

STATE: dict[str, Field] = {
    "kv_cache": Field(Flag(), "Says that the mixer keeps keys and values, as it then must; true where it does.", None),
    "ssm_state": Field(Flag(), "The same of a state that does not grow; true where the mixer has one.", None),
}
"""The keys of `state`."""

WORDS = {"kv_cache": "keys and values", "ssm_state": "state of its own"}


def check_state(values: Values, mixer: Op, report: Report) -> None:
    """What is said of a mixer's state is so: caches follow from mixers, and nothing else decides on them."""
    for key, is_kept in _kept(mixer).items():
        said = None if values.is_unread(key) else values.get(key)
        if said and not is_kept:
            other = next((name for name, is_other in _kept(mixer).items() if is_other), None)
            report.error(
                "E0878",
                f"{key} in a template whose mixer keeps no {WORDS[key]}",
                values.where(key),
                "there is none",
                secondary=((mixer.span, "the mixer"),),
                help=f"write `{other}: true`, or take the block out" if other else "take the block out",
            )
        elif said is False and is_kept:
            report.error(
                "E0877",
                f"{key} false in a template whose mixer keeps {WORDS[key]}",
                values.where(key),
                "decoding step by step reads it",
                secondary=((mixer.span, "the mixer"),),
                help=f"take {key} out; `generate(use_cache=False)` runs any model without a cache",
            )


def _kept(mixer: Op) -> dict[str, bool]:
    """What a mixer keeps, by key; retention has its keys and values in its state."""
    mixers = [op for op in mixer.walk() if is_mixer(op)]
    growing = [grows(state) for op in mixers for state in definition(op.name).carries(op)]
    retains = any(op.name == "mixer.retention" for op in mixers)
    return {"kv_cache": any(growing) or retains, "ssm_state": not all(growing)}
