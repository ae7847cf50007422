"""The syntax of `${...}`: text to lark tree, and errors that say what would work.

Importing lark and building the parser take about 0.1 s, so this module is imported only when a spec has expressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput, UnexpectedToken

from eulerc.diagnostics.suggest import closest
from eulerc.frontend.environment import Environment, ExpressionError

MAX_LENGTH = 1000
MAX_DEPTH = 64
CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
FUNCTIONS = {"min": None, "max": None, "ceil": 1, "floor": 1, "round": 1, "sqrt": 1}
"""How many values each function takes; None means one or more."""

_WORDS = re.compile(r"\w+|[^\w\s]")
_NO_POWER = "there is no power operator; write the product out"
_HINTS = {
    "=": "equality is written ==",
    "^": _NO_POWER,
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not` or `!=`",
    "?": "write `a if condition else b`",
    "$": "an expression holds no second `${`",
    "[": "there are no lists in expressions",
}


@cache
def _parser() -> Lark:
    grammar = files("eulerc.grammar").joinpath("expr.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=False)


@lru_cache(maxsize=1024)
def parse(text: str) -> Tree[Token]:
    """The tree of an expression. Raises ExpressionError where the text is no expression, too long or too deep."""
    if not text.strip():
        raise ExpressionError("E0401", "the expression is empty", 0, len(text), "nothing to compute")
    if len(text) > MAX_LENGTH:
        message = f"the expression has {len(text)} characters, more than {MAX_LENGTH}"
        raise ExpressionError("E0407", message, MAX_LENGTH, MAX_LENGTH + 1, "the limit is passed here")
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise _syntax_error(error, text) from None
    _check_depth(tree)
    return tree


def _syntax_error(error: UnexpectedInput, text: str) -> ExpressionError:
    at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    start = len(text.rstrip()) if at_end else error.pos_in_stream or 0
    wanted = _wanted(error, text[:start])
    if at_end:
        return ExpressionError("E0401", "the expression ends too early", start, start, f"{wanted} is missing")
    match = _WORDS.match(text, start)
    found = match[0] if match else text[start]
    is_doubled_star = found == "*" and text[:start].endswith("*")
    hint = _NO_POWER if is_doubled_star else _HINTS.get(found[0])
    message = f"`{found}` is not expected in the expression"
    return ExpressionError("E0401", message, start, start + len(found), f"{wanted} belongs here", hint)


def _wanted(error: UnexpectedInput, before: str) -> str:
    """What could stand where the parser gave up."""
    allowed = error.expected if isinstance(error, UnexpectedToken) else getattr(error, "allowed", set())
    if "NUMBER" in allowed:
        return "a value"
    return "`)`" if before.count("(") > before.count(")") else "an operator"


def _check_depth(tree: Tree[Token]) -> None:
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in node.children if isinstance(child, Tree)]
    if level:
        start, end = extent(level[0])
        message = f"the expression is nested deeper than {MAX_DEPTH} levels"
        raise ExpressionError("E0407", message, start, end, "too deep", "give parts of it names under let")


def extent(tree: Tree[Token]) -> tuple[int, int]:
    """The characters of the expression that a subtree was read from."""
    return tree.meta.start_pos, tree.meta.end_pos


def names_of(tree: Tree[Token]) -> list[tuple[str, int, int]]:
    """The names in the order written, each as `let.x` with its extent; constants are no names."""
    found = [(".".join(map(str, node.children)), *extent(node)) for node in tree.find_data("name")]
    return sorted((name for name in found if name[0] not in CONSTANTS), key=lambda name: name[1])


def static_errors(tree: Tree[Token], environment: Environment, is_deferred: bool) -> Iterator[ExpressionError]:
    """What is wrong whatever the values are: unknown names and functions, wrong numbers of arguments.

    With `is_deferred`, `params.*` and `layer.*` get their values later and are not looked at.
    """
    for node in tree.find_data("call"):
        yield from _call_errors(node)
    for name, start, end in names_of(tree):
        namespace, _, rest = name.partition(".")
        if namespace == "layer" and rest in ("index", "count"):
            if environment.names("layer")[rest] is None and not is_deferred:
                yield _no_layer(name, start, end)
        elif namespace in ("let", "model", "params") and rest and "." not in rest:
            is_known = rest in environment.names(namespace) or name in environment.failed
            if not is_known and not (is_deferred and namespace == "params"):
                yield _undefined(namespace, rest, start, end, environment)
        else:
            yield _no_namespace(name, start, end, environment)


def _call_errors(node: Tree[Token]) -> Iterator[ExpressionError]:
    token = node.children[0]
    assert isinstance(token, Token)
    start, end = token.start_pos or 0, token.end_pos or 0
    count = len(node.children) - 1
    if token not in FUNCTIONS:
        near = closest(token, FUNCTIONS)
        hint = f"did you mean {near}?" if near else f"the functions are {', '.join(FUNCTIONS)}"
        yield ExpressionError("E0403", f"`{token}` is not a function", start, end, "unknown", hint)
    elif count != (FUNCTIONS[token] or max(count, 1)):
        wanted = "one value" if FUNCTIONS[token] else "at least one value"
        yield ExpressionError("E0410", f"`{token}` takes {wanted}, not {count}", start, end, f"{count} given")


def _no_layer(name: str, start: int, end: int) -> ExpressionError:
    return ExpressionError(
        "E0408",
        f"`{name}` has no value here",
        start,
        end,
        "belongs to no layer",
        "use it in a template, or in the `with` and overrides of a run",
    )


def _undefined(namespace: str, name: str, start: int, end: int, environment: Environment) -> ExpressionError:
    known = environment.names(namespace)
    others = [f"{other}.{name}" for other in ("let", "model", "params") if name in environment.names(other)]
    near = closest(name, known)
    if others or near:
        hint = f"did you mean {others[0] if others else f'{namespace}.{near}'}?"
    elif namespace == "params" and not known:
        hint = "params.* has values within a layer template that declares them"
    else:
        hint = f"{namespace} has {', '.join(list(known)[:8])}" if known else f"define `{name}` under {namespace}"
    return ExpressionError("E0403", f"`{namespace}.{name}` is not defined", start, end, f"not in {namespace}", hint)


def _no_namespace(name: str, start: int, end: int, environment: Environment) -> ExpressionError:
    last = name.rpartition(".")[2]
    full = [f"{space}.{last}" for space in ("let", "model", "params") if last in environment.names(space)]
    hint = f"did you mean {full[0]}?" if full else "names are let.X, model.X, params.X, layer.index and layer.count"
    return ExpressionError("E0403", f"`{name}` is not a name", start, end, "unknown", hint)
