"""Globs of parameter names, as training hints and scopes of quantisation write them."""

from __future__ import annotations

from fnmatch import fnmatchcase


def covers(glob: str, name: str) -> bool:
    """Whether a glob matches the name of a parameter, or that of a module around it; `*` stands for dots too."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), glob) for end in range(1, len(parts) + 1))


def shortest_globs(names: list[str], others: list[str]) -> list[str]:
    """Few globs, `*.` and the end of a name, that cover all of some names and none of the others."""
    found: list[str] = []
    for name in names:
        if not any(covers(glob, name) for glob in found):
            found.append(_shortest(name, others))
    return found


def _shortest(name: str, others: list[str]) -> str:
    parts = name.split(".")
    for start in range(len(parts) - 1, 0, -1):
        end = ".".join(parts[start:])
        if not any(other.endswith(f".{end}") for other in others):
            return f"*.{end}"
    return name
