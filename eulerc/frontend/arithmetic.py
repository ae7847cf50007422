"""Evaluates expressions over exact rational numbers, truth values, strings and null.

A decimal literal is the fraction it is written as, so `${0.1 + 0.2}` is 0.3; only the final result is rounded, once,
to the nearest double. Every intermediate result is bounded.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

from attrs import frozen
from lark import Token, Tree

from eulerc.frontend.environment import Environment, ExpressionError
from eulerc.frontend.scalars import MAX_DIGITS
from eulerc.frontend.syntax import CONSTANTS, extent
from eulerc.frontend.tree import ScalarValue

Value: TypeAlias = "Fraction | bool | str | None"

MAX_BITS = 4096
_MAX_EXPONENT = 400
_ROOT_BITS = 256
_ARITHMETIC: dict[str, Callable[[Fraction, Fraction], Fraction | int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}
_ORDER: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FUNCTIONS: dict[str, Callable[[list[Fraction]], Fraction | int]] = {
    "min": min,
    "max": max,
    "ceil": lambda values: math.ceil(values[0]),
    "floor": lambda values: math.floor(values[0]),
    "round": lambda values: round(values[0]),
    "sqrt": lambda values: _square_root(values[0]),
}


def evaluate(tree: Tree[Token], text: str, environment: Environment) -> ScalarValue:
    """The value of an expression whose names are all defined: whole numbers as int, others as the nearest float.

    Raises ExpressionError for division by zero, roots of negative numbers, operands of the wrong kind, and numbers
    that are too large or too small.
    """
    value = _Evaluator(text, environment).value(tree)
    return _rounded(value, *extent(tree)) if isinstance(value, Fraction) else value


def _rounded(value: Fraction, start: int, end: int) -> int | float:
    if value.denominator == 1 and abs(value) < 10**MAX_DIGITS:
        return int(value)
    try:
        rounded = float(value)
    except OverflowError:
        rounded = math.inf
    if value.denominator == 1 or math.isinf(rounded) or rounded == 0:
        size = "too small" if rounded == 0 else "too large"
        raise ExpressionError("E0406", f"the result is {size} for a number", start, end, f"about {_magnitude(value)}")
    return rounded


def _magnitude(value: Fraction) -> str:
    bits = value.numerator.bit_length() - value.denominator.bit_length()
    return f"{'-' if value < 0 else ''}1e{round(bits * math.log10(2))}"


@frozen
class _Evaluator:
    text: str
    environment: Environment

    def value(self, tree: Tree[Token]) -> Value:
        return _RULES[tree.data](self, tree)

    def error(self, code: str, message: str, tree: Tree[Token], label: str) -> ExpressionError:
        return ExpressionError(code, message, *extent(tree), label)

    def operand(self, tree: Tree[Token]) -> Fraction:
        """The value of a subtree that has to be a number."""
        value = self.value(tree)
        if not isinstance(value, Fraction):
            raise self.error("E0404", f"arithmetic needs numbers, not {_kind(value)}", tree, f"is {_shown(value)}")
        return value

    def condition(self, tree: Tree[Token]) -> bool:
        """The value of a subtree that has to be true or false."""
        value = self.value(tree)
        if not isinstance(value, bool):
            message = f"a condition is true or false, not {_kind(value)}"
            raise self.error("E0404", message, tree, f"is {_shown(value)}")
        return value

    def bounded(self, value: Fraction | int, tree: Tree[Token]) -> Fraction:
        fraction = Fraction(value)
        if max(fraction.numerator.bit_length(), fraction.denominator.bit_length()) > MAX_BITS:
            message = f"a number within the expression takes more than {MAX_BITS} bits"
            raise self.error("E0406", message, tree, f"about {_magnitude(fraction)}")
        return fraction

    def number(self, tree: Tree[Token]) -> Fraction:
        text = str(tree.children[0]).replace("_", "")
        if text[:2] in ("0x", "0X"):
            return self.bounded(int(text, 16), tree)
        exponent = re.search("[eE](.*)", text)
        if exponent and abs(int(exponent[1])) > _MAX_EXPONENT:
            raise self.error(
                "E0406", f"`{text}` is out of range", tree, f"exponents reach from -{_MAX_EXPONENT} to {_MAX_EXPONENT}"
            )
        return self.bounded(Fraction(text), tree)

    def string(self, tree: Tree[Token]) -> str:
        return str(tree.children[0])[1:-1]

    def name(self, tree: Tree[Token]) -> Value:
        name = ".".join(map(str, tree.children))
        if name in CONSTANTS:
            return CONSTANTS[name]
        namespace, _, rest = name.partition(".")
        value = self.environment.names(namespace)[rest]
        # The shortest decimal that reads as this float is what was written.
        if isinstance(value, float):
            return Fraction(repr(value))
        return Fraction(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def call(self, tree: Tree[Token]) -> Fraction:
        name, *arguments = tree.children
        values = [self.operand(argument) for argument in arguments if isinstance(argument, Tree)]
        if name == "sqrt" and values[0] < 0:
            message = "a negative number has no square root"
            raise self.error("E0405", message, tree, f"the root of {_shown(values[0])}")
        return self.bounded(_FUNCTIONS[str(name)](values), tree)

    def chain(self, tree: Tree[Token]) -> Fraction:
        first, *others = tree.children
        assert isinstance(first, Tree)
        result = self.operand(first)
        for sign, operand in zip(others[::2], others[1::2], strict=True):
            assert isinstance(operand, Tree)
            right = self.operand(operand)
            if right == 0 and sign in ("/", "//", "%"):
                raise self.error("E0405", "division by zero", operand, "is 0")
            result = self.bounded(_ARITHMETIC[str(sign)](result, right), tree)
        return result

    def signed(self, tree: Tree[Token]) -> Fraction:
        sign, operand = tree.children
        assert isinstance(operand, Tree)
        value = self.operand(operand)
        return -value if sign == "-" else value

    def comparison(self, tree: Tree[Token]) -> bool:
        operands = [child for child in tree.children if isinstance(child, Tree)]
        relations = [str(child) for child in tree.children if isinstance(child, Token)]
        pairs = zip(operands, relations, operands[1:], strict=False)
        return all(self.holds(left, relation, right) for left, relation, right in pairs)

    def holds(self, left: Tree[Token], relation: str, right: Tree[Token]) -> bool:
        if relation in _ORDER:
            return _ORDER[relation](self.operand(left), self.operand(right))
        one, other = self.value(left), self.value(right)
        if None not in (one, other) and type(one) is not type(other):
            message = f"{_kind(one)} and {_kind(other)} are never equal"
            raise self.error("E0404", message, right, f"is {_shown(other)}")
        return (one == other) == (relation == "==")

    def conditional(self, tree: Tree[Token]) -> Value:
        value, condition, other = (child for child in tree.children if isinstance(child, Tree))
        return self.value(value if self.condition(condition) else other)

    def disjunction(self, tree: Tree[Token]) -> bool:
        return any(self.condition(child) for child in tree.children if isinstance(child, Tree))

    def conjunction(self, tree: Tree[Token]) -> bool:
        return all(self.condition(child) for child in tree.children if isinstance(child, Tree))

    def negation(self, tree: Tree[Token]) -> bool:
        (operand,) = (child for child in tree.children if isinstance(child, Tree))
        return not self.condition(operand)


_RULES: dict[str, Callable[[_Evaluator, Tree[Token]], Value]] = {
    "number": _Evaluator.number,
    "string": _Evaluator.string,
    "name": _Evaluator.name,
    "call": _Evaluator.call,
    "sum": _Evaluator.chain,
    "product": _Evaluator.chain,
    "signed": _Evaluator.signed,
    "comparison": _Evaluator.comparison,
    "conditional": _Evaluator.conditional,
    "disjunction": _Evaluator.disjunction,
    "conjunction": _Evaluator.conjunction,
    "not_": _Evaluator.negation,
}


def _square_root(value: Fraction) -> Fraction:
    """The exact root where it is rational, else the root rounded down after at least 256 significant bits."""
    numerator, denominator = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if numerator**2 == value.numerator and denominator**2 == value.denominator:
        return Fraction(numerator, denominator)
    radicand = value.numerator * value.denominator << 2 * _ROOT_BITS
    return Fraction(math.isqrt(radicand), value.denominator << _ROOT_BITS)


def _kind(value: Value) -> str:
    if value is None:
        return "null"
    return {bool: "a truth value", str: "a string", Fraction: "a number"}[type(value)]


def _shown(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 24 else f"{text[:21]}..."
