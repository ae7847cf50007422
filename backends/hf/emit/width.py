"""Breaks the lines that a long model name has made too long, as `ruff format` would."""

from __future__ import annotations

import re
from itertools import accumulate, pairwise

from eulerc.backends.hf.emit.emitter import WIDTH

BREAKABLE = re.compile(
    r" *(class |def |self\.\w+ = \w+\(|AutoModel\.register\(|_no_split_modules = |\w+_types = "
    r'|"(hidden_states|attentions|router_logits)": )'
)
"""Lines that hold class names, so that their length is not known where they are written."""
DEPTH = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def fitted(text: str) -> str:
    """The text with every breakable line within the width."""
    return "\n".join(part for line in text.split("\n") for part in _broken(line))


def _broken(line: str) -> list[str]:
    if len(line) <= WIDTH or not BREAKABLE.match(line):
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    depths = list(accumulate(DEPTH.get(character, 0) for character in line))
    if 1 not in depths:
        return [line]
    start = depths.index(1)
    end = depths.index(0, start)
    inner, depth = line[start + 1 : end], depths[start]
    commas = [place for place in range(start + 1, end) if line[place] == "," and depths[place] == depth]
    # The parts of a list or tuple stand one below the other, those of a call on one line if they fit
    is_literal = line[start] == "[" or line[:start].endswith("= ")
    if len(indent) + 4 + len(inner) <= WIDTH and not is_literal:
        body = [f"{indent}    {inner}"]
    else:
        pairs = pairwise([start, *commas, end])
        body = [f"{indent}    {line[first + 1 : last].strip()}," for first, last in pairs]
    return [line[: start + 1], *body, indent + line[end:]]
