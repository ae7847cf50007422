"""The values of `let:` and `model:`, whose expressions may use each other in any order."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import evolve, frozen

from eulerc.diagnostics.model import Diagnostics, Label
from eulerc.diagnostics.text import shorten
from eulerc.frontend.environment import Environment
from eulerc.frontend.expression import is_expression, names_in, resolve
from eulerc.frontend.tree import Entry, Node, Scalar, ScalarValue

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@frozen
class _Definition:
    """One named scalar and the names of its own namespace that it uses."""

    entry: Entry
    scalar: Scalar
    uses: tuple[str, ...]


def let_environment(entries: Iterable[Entry], diagnostics: Diagnostics) -> Environment:
    """The environment that the entries of `let:` make; refuses what is no number or truth value."""
    sound: list[Entry] = []
    failed: set[str] = set()
    for entry in entries:
        if _is_sound_let(entry, diagnostics):
            sound.append(entry)
        else:
            failed.add(f"let.{entry.key}")
    environment = _evaluated("let", sound, Environment(failed=frozenset(failed)), diagnostics)
    return _without_strings(sound, environment, diagnostics)


def with_model(entries: Iterable[Entry], environment: Environment, diagnostics: Diagnostics) -> Environment:
    """The environment with the scalars of `model:` added, which may use `let.*` and each other."""
    return _evaluated("model", list(entries), environment, diagnostics)


def _is_sound_let(entry: Entry, diagnostics: Diagnostics) -> bool:
    if not _IDENTIFIER.fullmatch(entry.key):
        message = f"`{shorten(entry.key)}` cannot be used as a name"
        hint = "names are letters, digits and _, and do not begin with a digit"
        diagnostics.error("E0411", message, entry.key_span, "expressions could not say let." + shorten(entry.key, 20), help=hint)
        return False
    if is_expression(entry.value) or _is_number(entry.value):
        return True
    _report_no_number(entry, diagnostics)
    return False


def _is_number(node: Node) -> bool:
    return isinstance(node, Scalar) and isinstance(node.value, bool | int | float)


def _report_no_number(entry: Entry, diagnostics: Diagnostics) -> None:
    message = f"let `{shorten(entry.key)}` is neither a number nor true or false"
    hint = "write a number, or an expression in ${...}"
    diagnostics.error("E0411", message, entry.value.span, "let names numbers", help=hint)


def _without_strings(entries: list[Entry], environment: Environment, diagnostics: Diagnostics) -> Environment:
    """Refuse expressions that came out as a string or null."""
    wrong = [entry for entry in entries if isinstance(environment.let.get(entry.key, 0), str | None)]
    for entry in wrong:
        _report_no_number(entry, diagnostics)
    let = {name: value for name, value in environment.let.items() if isinstance(value, bool | int | float)}
    return evolve(environment, let=let, failed=environment.failed | {f"let.{entry.key}" for entry in wrong})


def _evaluated(namespace: str, entries: list[Entry], environment: Environment, diagnostics: Diagnostics) -> Environment:
    """`environment` with the values of all entries, evaluated in the order of their dependencies."""
    pending = _definitions(namespace, entries)
    values = {name: item.scalar.value for name, item in pending.items() if not is_expression(item.scalar)}
    pending = {name: item for name, item in pending.items() if name not in values}
    _fail_cycles(namespace, pending, failed := set(environment.failed), diagnostics)
    remaining = {name for name in pending if f"{namespace}.{name}" not in failed}
    for name in _in_order(pending, remaining):
        known = evolve(environment, failed=frozenset(failed), **{namespace: _with_names(values, remaining)})
        result = resolve(pending[name].scalar, known, diagnostics)
        if isinstance(result, Scalar) and not is_expression(result):
            values[name] = result.value
        else:
            failed.add(f"{namespace}.{name}")
    return evolve(environment, failed=frozenset(failed), **{namespace: values})
