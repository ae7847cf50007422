"""`integrate`: layers as the right-hand side of a differential equation."""

from __future__ import annotations

from eulerc.ir.core import Op
from eulerc.ir.definition import Definition, register

STAGES = {"discrete": 1, "ode_euler": 1, "ode_rk4": 4}
"""How often a step of each method evaluates the layers; an adaptive one does so as often as it likes."""

ADAPTIVE = "ode_adaptive"
STEPPING = ("ode_euler", "ode_rk4")
"""The methods whose number of evaluations follows from their steps."""


@register
class Integrate(Definition):
    """The state at time 1 of x' = f(x), where f(x) is what the layers of `schedule` add to x.

    `output` says what goes on: the state (`token`), or the state added to what it started from (`hidden`). The method
    `discrete` runs its layers once, and integrates nothing. `modules` numbers the layers' modules in the whole model;
    None where every layer has one of its own. The adaptive method takes at most `steps`, whose size follows from
    `tolerance`: it keeps no state from token to token, since nobody knows how often its layers run.
    """

    name = "integrate"
    portable = True
    stages = frozenset({"layers", "module"})
    implicit = {"modules": None, "output": "token", "tolerance": None}

    @classmethod
    def traits(cls, op: Op) -> tuple[str, ...]:
        return ("adaptive",) if op["method"] == ADAPTIVE else ()
