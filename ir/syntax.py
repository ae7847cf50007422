"""The syntax tree of the textual IR: what stood where, before any name is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

if TYPE_CHECKING:
    from lark import Token

ValueNode: TypeAlias = "Token | ListNode | MapNode"
Statement: TypeAlias = "OperationNode | DimNode"


@frozen
class RepeatNode:
    value: ValueNode
    count: Token


@frozen
class ListNode:
    items: tuple[ValueNode | RepeatNode, ...]
    first: Token
    last: Token


@frozen
class PairNode:
    key: Token
    value: ValueNode


@frozen
class MapNode:
    pairs: tuple[PairNode, ...]
    first: Token
    last: Token


@frozen
class TypeNode:
    extents: tuple[Token, ...]
    dtype: Token | None


@frozen
class StateNode:
    kind: Token
    type: TypeNode


@frozen
class ArgumentNode:
    name: Token
    type: TypeNode


@frozen
class DimNode:
    keyword: Token
    name: Token
    size: Token


@frozen
class LocationNode:
    """`end` holds the end column, or the end line and the end column."""

    source: Token
    line: Token
    column: Token
    end: tuple[Token, ...]


@frozen
class OperationNode:
    results: tuple[Token, ...]
    name: Token
    symbol: Token | None
    arguments: tuple[ArgumentNode, ...]
    operands: tuple[Token, ...]
    schedule: ListNode | None
    attributes: MapNode | None
    body: tuple[Statement, ...] | None
    types: tuple[TypeNode, ...]
    carries: tuple[StateNode, ...]
    location: LocationNode | None


class Builder:
    """One method for each rule of `grammar/ir.lark`, from the rule's children to its node."""

    def start(self, children: Sequence[Any]) -> OperationNode:
        model: OperationNode = children[3]
        return model

    def operation(self, children: Sequence[Any]) -> OperationNode:
        results, name, symbol, arguments, operands, schedule, (attributes, body), *rest = children
        return OperationNode(results, name, symbol, arguments, operands, schedule, attributes, body, *rest)

    def plain_operation(self, children: Sequence[Any]) -> OperationNode:
        return self.operation([(), *children])

    results = arguments = operands = types = carries = body = extents = staticmethod(tuple)

    def symbol(self, children: Sequence[Any]) -> Any:
        return children[0] if children else None

    schedule = symbol

    def attributes_and_body(self, children: Sequence[Any]) -> tuple[MapNode | None, tuple[Statement, ...] | None]:
        attributes = children[0] if children and isinstance(children[0], MapNode) else None
        body = children[-1] if children and isinstance(children[-1], tuple) else None
        return attributes, body

    def argument(self, children: Sequence[Any]) -> ArgumentNode:
        return ArgumentNode(*children)

    def tensor_type(self, children: Sequence[Any]) -> TypeNode:
        return TypeNode(children[0], children[1] if len(children) > 1 else None)

    def state(self, children: Sequence[Any]) -> StateNode:
        return StateNode(children[0], self.tensor_type(children[1:]))

    def dim(self, children: Sequence[Any]) -> DimNode:
        return DimNode(*children)

    def location(self, children: Sequence[Any]) -> LocationNode | None:
        if not children:
            return None
        source, line, column, *end = children
        return LocationNode(source, line, column, tuple(end))

    def mapping(self, children: Sequence[Any]) -> MapNode:
        return MapNode(tuple(children[1:-1]), children[0], children[-1])

    attributes = mapping

    def sequence(self, children: Sequence[Any]) -> ListNode:
        return ListNode(tuple(children[1:-1]), children[0], children[-1])

    def pair(self, children: Sequence[Any]) -> PairNode:
        return PairNode(*children)

    def repeat(self, children: Sequence[Any]) -> RepeatNode:
        return RepeatNode(*children)
