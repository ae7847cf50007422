"""From the words of a textual IR to values: numbers, strings, names, lists, types, places."""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from attrs import define, field

from eulerc.diagnostics.model import Diagnostics
from eulerc.ir.core import Attribute, Dim, Extent, StateType, Symbol, TensorType
from eulerc.ir.span import Span
from eulerc.ir.syntax import ListNode, LocationNode, MapNode, RepeatNode, StateNode, TypeNode, ValueNode
from eulerc.ir.text import (
    LARGEST_INTEGER,
    MAX_DEPTH,
    MAX_ERRORS,
    MAX_EXPANDED_ITEMS,
    SMALLEST_INTEGER,
    WORDS,
    has_surrogates,
    shortened,
)

if TYPE_CHECKING:
    from lark import Token


@define
class Decoder:
    """Decodes the tokens of one text; what is wrong with them goes to `diagnostics`, and some value is returned."""

    source: str
    diagnostics: Diagnostics
    dims: Mapping[str, Dim] = field(factory=dict)
    items_left: int = MAX_EXPANDED_ITEMS

    def span(self, first: Token, last: Token | None = None) -> Span:
        end = last if last is not None else first
        return Span(self.source, first.line or 1, first.column or 1, end.end_line or 1, end.end_column or 1)

    @property
    def is_full(self) -> bool:
        return len(self.diagnostics.items) >= MAX_ERRORS

    def error(self, code: str, message: str, token: Token, label: str = "", **rest: Any) -> None:
        if not self.is_full:
            self.diagnostics.error(code, message, self.span(token), label, **rest)

    def suggestion(self, name: str, known: Container[str], mark: str = "") -> str | None:
        """`did you mean ...`, if something known is spelled alike; not sought where the search would take long."""
        if self.is_full or not isinstance(known, Collection) or len(known) > 1000 or len(name) > 64:
            return None
        close = get_close_matches(name, sorted(known), 1)
        return f"did you mean `{mark}{close[0]}`?" if close else None

    def string(self, token: Token, skipped: int = 0) -> str:
        """The text of a JSON string that starts `skipped` characters into a token."""
        written = token[skipped:]
        try:
            text = str(json.loads(written)) if "\\" in written else written[1:-1]
        except ValueError as error:
            reason = str(error).split(":")[0].lower()
            self.error("E0712", f"{shortened(written)} is not a JSON string", token, reason)
            return ""
        if has_surrogates(text):
            self.error("E0712", f"{shortened(written)} holds half a character", token, "a surrogate without its pair")
        return text

    def name(self, token: Token) -> str:
        """The name behind `%` or `@`, quoted or not."""
        return self.string(token, 1) if token.startswith('"', 1) else token[1:]

    def integer(self, token: Token) -> int:
        # A number of thousands of digits is refused by its length, since int() itself raises on it.
        value = int(token) if len(token) <= 21 else LARGEST_INTEGER + 1
        if SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
            return value
        self.error("E0712", f"{shortened(token)} is not a 64-bit integer", token)
        return 1

    def positive(self, token: Token) -> int:
        value = self.integer(token)
        if value > 0:
            return value
        self.error("E0712", f"{value} is not above 0", token, help="counts, lines and columns start at 1")
        return 1

    def number(self, token: Token) -> float:
        value = float(token)
        if value in (float("inf"), float("-inf")) and not token.endswith("inf"):
            self.error("E0712", f"{shortened(token)} is beyond double precision", token, help="infinity is written inf")
        return value

    def extent(self, token: Token) -> Extent:
        if token.type == "INT":
            return self.integer(token)
        return self.dims.get(token, str(token))

    def type(self, node: TypeNode) -> TensorType:
        return TensorType(tuple(map(self.extent, node.extents)), None if node.dtype is None else str(node.dtype))

    def state(self, node: StateNode) -> StateType:
        tensor = self.type(node.type)
        return StateType(str(node.kind), tensor.dims, tensor.dtype)

    def location(self, node: LocationNode) -> Span:
        """The place a `loc(...)` names; without an end it is one character wide."""
        line, column = self.positive(node.line), self.positive(node.column)
        end = [self.positive(token) for token in node.end]
        end_line, end_column = end if len(end) == 2 else [line, *(end or [column + 1])]
        return Span(self.string(node.source), line, column, end_line, end_column)

    def value_span(self, node: ValueNode) -> Span:
        return self.span(node.first, node.last) if isinstance(node, (ListNode, MapNode)) else self.span(node)

    def value(self, node: ValueNode, symbols: Container[str], depth: int = 0) -> Attribute:
        """The value of an attribute; a symbol must be among `symbols`, a bare word among the dims."""
        if not isinstance(node, (ListNode, MapNode)):
            return self._leaf(node, symbols)
        if depth >= MAX_DEPTH:
            self.error("E0711", f"values are nested more than {MAX_DEPTH} deep", node.first)
            return None
        if isinstance(node, ListNode):
            return self._list(node, symbols, depth)
        return self.mapping(node, symbols, depth)

    def mapping(self, node: MapNode, symbols: Container[str], depth: int = 0) -> dict[str, Attribute]:
        entries: dict[str, Attribute] = {}
        for pair in node.pairs:
            key = self.string(pair.key) if pair.key.type == "STRING" else str(pair.key)
            if key in entries:
                self.error("E0707", f"`{shortened(key)}` is given twice", pair.key, "given before in the same braces")
            entries[key] = self.value(pair.value, symbols, depth + 1)
        return entries

    def spans(self, node: MapNode, prefix: str = "", depth: int = 0) -> dict[str, Span]:
        """Where the values stand; nested ones under dotted paths."""
        found: dict[str, Span] = {}
        for pair in node.pairs:
            path = prefix + (self.string(pair.key) if pair.key.type == "STRING" else str(pair.key))
            found[path] = self.value_span(pair.value)
            if isinstance(pair.value, MapNode) and depth < MAX_DEPTH:
                found |= self.spans(pair.value, f"{path}.", depth + 1)
        return found

    def _list(self, node: ListNode, symbols: Container[str], depth: int) -> list[Attribute]:
        items: list[Attribute] = []
        for item in node.items:
            if isinstance(item, RepeatNode):
                items += self._repeated(item, symbols, depth)
            else:
                items.append(self.value(item, symbols, depth + 1))
        return items

    def _repeated(self, node: RepeatNode, symbols: Container[str], depth: int) -> list[Attribute]:
        """`x*3` is x three times; `[x, y]*3` is the items x, y three times over."""
        value = self.value(node.value, symbols, depth + 1)
        piece = value if isinstance(value, list) else [value]
        count = self.positive(node.count)
        if len(piece) * count > self.items_left:
            self.error("E0711", f"repetitions make more than {MAX_EXPANDED_ITEMS} items", node.count)
            return []
        self.items_left -= len(piece) * count
        return piece * count

    def _leaf(self, token: Token, symbols: Container[str]) -> Attribute:
        match token.type:
            case "INT":
                return self.integer(token)
            case "FLOAT":
                return self.number(token)
            case "STRING":
                return self.string(token)
            case "SYMBOL":
                return self._reference(token, symbols)
        if token in WORDS:
            return WORDS[token]
        return self._dim(token)

    def _reference(self, token: Token, symbols: Container[str]) -> Symbol:
        name = self.name(token)
        if name not in symbols:
            self.error("E0706", f"no op defines {shortened(token)}", token, help=self.suggestion(name, symbols, "@"))
        return Symbol(name)

    def _dim(self, token: Token) -> Attribute:
        dim = self.dims.get(token)
        if dim is None:
            declare = f"declare it at the head of the model (`dim {shortened(token)} = 64`), or quote it as a string"
            hint = self.suggestion(token, self.dims) or declare
            self.error("E0709", f"`{shortened(token)}` is not a declared dim", token, help=hint)
        return dim
