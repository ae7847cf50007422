"""The picture as a Mermaid flowchart: the run of the layers, and the graph of every distinct block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eulerc.ir.core import Module, Op
from eulerc.ir.definition import definition
from eulerc.ir.rolling import Leaf, Rolled, roll
from eulerc.viz.card import state_words
from eulerc.viz.palette import BOXES
from eulerc.viz.picture import Kind, Picture, picture_of
from eulerc.viz.text import one_line
from eulerc.viz.words import details, title

PUNCTUATION = {ord(character): f"#{ord(character)};" for character in '#&<>"`[]{}()|\\;%*_~'}
"""Characters that Mermaid's grammar or its Markdown reads, as the entities that it prints."""


def mermaid(module: Module) -> str:
    """The flowchart of a module at stage `module`: the same text for the same design."""
    picture = picture_of(module)
    lines = ["---", f"title: {_quoted(picture.name)}", "---", "flowchart TB", *_spine(picture)]
    for kind in picture.kinds:
        lines += _block(kind, picture)
    for axis, (fill, stroke) in BOXES.items():
        lines.append(f"  classDef {axis or 'other'} fill:{fill},stroke:{stroke},color:#1f2933")
    return "\n".join(lines) + "\n"


def _spine(picture: Picture) -> Iterator[str]:
    """From the token ids through the layers to the logits."""
    numbers = "<br/>".join(f"{_plain(label)}: {_plain(value)}" for label, value in picture.numbers)
    yield f'  numbers["{"<br/>".join((numbers, *map(_plain, picture.integrators)))}"]'
    letters = [kind.letter for kind in picture.kinds]
    texts = [letters[kind] for kind in picture.depth]
    labels = [
        "token ids",
        *(_op_label(op, picture) for op in picture.before),
        f"layers: {_plain(_run(roll(texts), texts))}",
        *(_op_label(op, picture) for op in picture.after),
        "logits",
    ]
    for index, label in enumerate(labels):
        yield f'  m{index}["{label}"]'
    yield f"  {' --> '.join(f'm{index}' for index in range(len(labels)))}"
    if picture.is_tied:
        embed = next(index for index, op in enumerate(picture.before) if op.name == "embed")
        head = next(index for index, op in enumerate(picture.after) if op.get("tied"))
        yield f'  m{1 + embed} -. "tied weights" .- m{2 + len(picture.before) + head}'


def _run(items: Rolled, texts: Sequence[str]) -> str:
    """`A x 3, (A, B) x 12`."""
    words = []
    for item in items:
        text = texts[item.index] if isinstance(item, Leaf) else f"({_run(item.items, texts)})"
        words.append(text + (f" \N{MULTIPLICATION SIGN} {item.count}" if item.count > 1 else ""))
    return ", ".join(words)


def _block(kind: Kind, picture: Picture) -> Iterator[str]:
    prefix = kind.letter
    head = f"{kind.letter}: {kind.name}, {kind.where}, {kind.parameters} a layer"
    yield f'  subgraph {prefix}_block["{_plain(head)}"]'
    stream, *others = kind.body.arguments
    names = {stream.name: f"{prefix}_in", **{other.name: f"{prefix}_other" for other in others}}
    yield f'    {prefix}_in(["{_plain(f"residual stream, {kind.hidden_size}")}"])'
    if others:
        yield f'    {prefix}_other(["{_plain(f"other stream, {kind.hidden_size}")}"])'
    for index, op in enumerate(op for op in kind.body.ops if op.name != "yield"):
        node = f"{prefix}{index}"
        names |= {result.name: node for result in op.results}
        axis = definition(op.name).axis or "other"
        yield f'    {node}(("+"))' if op.name == "add" else f'    {node}["{_op_label(op, picture)}"]:::{axis}'
        for operand in op.operands:
            yield f"    {names[operand.name]} --> {node}"
    yield "  end"


def _op_label(op: Op, picture: Picture) -> str:
    phrases = [*details(op, picture.ropes), *state_words(op)]
    return "<br/>".join(map(_plain, (title(op), *phrases)))


def _plain(text: str) -> str:
    """Text in a label: nothing of it is read as markup."""
    return one_line(text).translate(PUNCTUATION)


def _quoted(text: str) -> str:
    """A YAML string in double quotes."""
    return '"' + one_line(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
