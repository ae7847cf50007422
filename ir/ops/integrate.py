"""`integrate`: layers as the right-hand side of a differential equation."""

from __future__ import annotations

from eulerc.ir.definition import Definition, register

STAGES = {"discrete": 1, "ode_euler": 1, "ode_rk4": 4}
"""How often a step of each method evaluates the layers."""


@register
class Integrate(Definition):
    """The state at time 1 of x' = f(x), where f(x) is what the layers of `schedule` add to x.

    `output` says what goes on: the state (`token`), or the state added to what it started from (`hidden`). The method
    `discrete` runs its layers once, and integrates nothing. `modules` numbers the layers' modules in the whole model;
    None where every layer has one of its own.
    """

    name = "integrate"
    portable = True
    stages = frozenset({"layers", "module"})
    implicit = {"modules": None, "output": "token"}
