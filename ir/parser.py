"""The textual IR, read: from text to a module, or to every diagnostic that the text deserves.

First lark makes a syntax tree (`eulerc.ir.reading`), then names are looked up here: values where they are defined,
symbols and dims in the model. What parses also passes `eulerc.ir.verify`, but for the ops that a stage allows.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Container, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from eulerc.diagnostics.model import Diagnostics, Label
from eulerc.ir.core import Attribute, Block, Dim, Module, Op, TensorType, Value
from eulerc.ir.decoding import Decoder
from eulerc.ir.reading import read_tree
from eulerc.ir.span import Span
from eulerc.ir.syntax import DimNode, OperationNode, Statement
from eulerc.ir.text import MAX_CHARACTERS, MAX_DEPTH, STAGES, VERSION, is_dim_name, shortened

if TYPE_CHECKING:
    from lark import Token

_WORD = re.compile(r"[^\s#]+")
_UNKNOWN = TensorType(())


def parse_module(
    text: str, source: str, diagnostics: Diagnostics, known_ops: Container[str] | None = None
) -> Module | None:
    """The module that `text` says, or None when errors E07xx were added to `diagnostics`.

    `source` names the text in spans. Ops that are not in `known_ops` are errors, unless it is None. Attributes and ops
    have spans in `text`, but an op with `loc(...)` has the place named there and no spans of its attributes.
    """
    own = Diagnostics()
    stage = _stage(text, source, own)
    tree = read_tree(text, source, own) if stage is not None else None
    model = _model(tree, Decoder(source, own), known_ops) if tree is not None else None
    for item in own.items:
        diagnostics.add(item)
    return Module(stage, model) if stage is not None and model is not None and not own.items else None


def _stage(text: str, source: str, diagnostics: Diagnostics) -> str | None:
    """The stage of the first line, `euler.ir v1 layers`."""
    if len(text) > MAX_CHARACTERS:
        message = f"{len(text)} characters are more than {MAX_CHARACTERS}"
        diagnostics.error("E0711", message, Span(source, 1, 1, 1, 2))
        return None
    lines = enumerate(text.split("\n"), start=1)
    number, line = next(((number, line) for number, line in lines if line.split("#")[0].strip()), (1, ""))
    words = list(_WORD.finditer(line.split("#")[0]))
    spans = [Span(source, number, word.start() + 1, number, word.end() + 1) for word in words]
    if len(words) != 3 or words[0][0] != "euler.ir" or not re.fullmatch(r"v[0-9]+", words[1][0]):
        hint = f"the first line is `euler.ir v{VERSION} <stage>`, where the stage is {_listed(STAGES)}"
        place = Span(source, number, 1, number, max(2, len(line) + 1))
        diagnostics.error("E0701", "not a textual IR", place, "not its first line", help=hint)
    elif words[1][0] != f"v{VERSION}":
        message = f"version {shortened(words[1][0])} of the textual IR is not known"
        diagnostics.error("E0702", message, spans[1], help=f"this eulerc reads v{VERSION}; write the text anew with it")
    elif words[2][0] not in STAGES:
        message = f"`{shortened(words[2][0])}` is not a stage"
        diagnostics.error("E0703", message, spans[2], help=f"the stage is {_listed(STAGES)}")
    else:
        return words[2][0]
    return None


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"


def _model(node: OperationNode, decoder: Decoder, known_ops: Container[str] | None) -> Op | None:
    if node.name != "model" or node.body is None:
        hint = "all else stands in `model @name { ... }`"
        decoder.error("E0713", "the outermost op is not a model with a body", node.name, help=hint)
        return None
    decoder.dims = _declared_dims(node.body, decoder)
    scope = _Scope(decoder, known_ops)
    # The model's own attributes may name what its body defines.
    scope.define_symbols(item for item in node.body if isinstance(item, OperationNode))
    return scope.operation(node, is_last=True)


def _declared_dims(body: Iterable[Statement], decoder: Decoder) -> dict[str, Dim]:
    dims: dict[str, Dim] = {}
    first: dict[str, Token] = {}
    for node in body:
        if not isinstance(node, DimNode):
            continue
        name = str(node.name)
        if not is_dim_name(name):
            decoder.error(
                "E0712", f"`{shortened(name)}` cannot name a dim", node.name, "a word of the language, or dotted"
            )
        if name in dims:
            _report_duplicate(decoder, node.name, first[name])
        first.setdefault(name, node.name)
        dims[name] = Dim(name, decoder.integer(node.size))
    return dims


def _report_duplicate(decoder: Decoder, token: Token, first: Token) -> None:
    here = Label(decoder.span(first), "defined here before")
    decoder.error("E0707", f"`{shortened(token)}` is defined twice", token, labels=(here,))


@frozen
class _Scope:
    """What is defined where an op stands: the values and symbols of its block and of the blocks around it."""

    decoder: Decoder
    known_ops: Container[str] | None
    values: ChainMap[str, Value] = field(factory=ChainMap)
    symbols: ChainMap[str, Any] = field(factory=ChainMap)
    first: dict[str, Token] = field(factory=dict)
    depth: int = 0

    def block(self, node: OperationNode) -> Block | None:
        """The body of an op, read in a scope of its own."""
        if node.body is None:
            return None
        inner = _Scope(
            self.decoder, self.known_ops, self.values.new_child(), self.symbols.new_child(), {}, self.depth + 1
        )
        if inner.depth > MAX_DEPTH:
            self.decoder.error("E0711", f"ops are nested more than {MAX_DEPTH} deep", node.name)
            return None
        arguments = tuple(inner.define(item.name, self.decoder.type(item.type)) for item in node.arguments)
        operations = [item for item in node.body if isinstance(item, OperationNode)]
        inner.define_symbols(operations)
        inner.refuse_dims(node.body)
        ops = tuple(inner.operation(item, is_last=item is node.body[-1]) for item in operations)
        return Block(arguments, ops)

    def define_symbols(self, operations: Iterable[OperationNode]) -> None:
        """Before the ops are read, since a symbol may be used above its op."""
        for token in (node.symbol for node in operations if node.symbol is not None):
            name = self.decoder.name(token)
            if name in self.symbols.maps[0]:
                _report_duplicate(self.decoder, token, self.symbols.maps[0][name])
            self.symbols[name] = token

    def refuse_dims(self, body: Iterable[Statement]) -> None:
        for node in body:
            if self.depth > 1 and isinstance(node, DimNode):
                hint = "declare it at the head of the model"
                self.decoder.error(
                    "E0713", f"dim `{shortened(node.name)}` is declared within an op", node.keyword, help=hint
                )

    def define(self, token: Token, type: TensorType) -> Value:
        name = self.decoder.name(token)
        if name in self.first:
            _report_duplicate(self.decoder, token, self.first[name])
        self.first[name] = token
        self.values[name] = Value(name, type)
        return self.values[name]

    def operation(self, node: OperationNode, is_last: bool) -> Op:
        self.check_place(node, is_last)
        location = self.decoder.location(node.location) if node.location is not None else None
        operands = tuple(map(self.operand, node.operands))
        attributes, spans = self.attributes(node)
        body = self.block(node)
        return Op(
            name=str(node.name),
            symbol=self.decoder.name(node.symbol) if node.symbol is not None else None,
            operands=operands,
            attributes=attributes,
            results=self.results(node),
            body=body,
            carries=tuple(map(self.decoder.state, node.carries)),
            span=location or self.decoder.span(node.name, node.symbol),
            spans=spans if location is None else {},
        )

    def check_place(self, node: OperationNode, is_last: bool) -> None:
        name = shortened(node.name)
        if self.known_ops is not None and node.name not in self.known_ops:
            hint = self.decoder.suggestion(node.name, self.known_ops)
            self.decoder.error("E0710", f"`{name}` is not a known op", node.name, help=hint)
        if node.name == "yield" and not is_last:
            self.decoder.error("E0713", "`yield` is not the last op of its block", node.name, "nothing may follow it")
        if node.arguments and node.body is None:
            self.decoder.error("E0713", f"`{name}` has arguments but no body", node.name, "arguments belong to a body")

    def operand(self, token: Token) -> Value:
        name = self.decoder.name(token)
        value = self.values.get(name)
        if value is not None:
            return value
        hint = self.decoder.suggestion(name, self.values, "%")
        self.decoder.error(
            "E0705", f"{shortened(token)} is not defined", token, "no op or argument above defines it", help=hint
        )
        return Value(name, _UNKNOWN)

    def attributes(self, node: OperationNode) -> tuple[dict[str, Attribute], dict[str, Span]]:
        """The attributes, and where each stands; the bracketed list is the one called `schedule`."""
        attributes: dict[str, Attribute] = {}
        spans: dict[str, Span] = {}
        if node.schedule is not None:
            attributes["schedule"] = self.decoder.value(node.schedule, self.symbols)
            spans["schedule"] = self.decoder.value_span(node.schedule)
        if node.attributes is None:
            return attributes, spans
        named = self.decoder.mapping(node.attributes, self.symbols)
        if "schedule" in named and node.schedule is not None:
            self.decoder.error("E0707", "`schedule` is given twice", node.schedule.first, "the list in brackets is one")
        return attributes | named, spans | self.decoder.spans(node.attributes)

    def results(self, node: OperationNode) -> tuple[Value, ...]:
        if len(node.results) != len(node.types):
            message = f"{_count(len(node.results), 'result')}, but {_count(len(node.types), 'type')}"
            self.decoder.error("E0708", message, node.name, help="one type for each result stands after the colon")
        types = chain(map(self.decoder.type, node.types), [_UNKNOWN] * len(node.results))
        return tuple(self.define(token, found) for token, found in zip(node.results, types, strict=False))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
