"""`eulerc diff OLD NEW`"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from eulerc.api import Linted
from eulerc.cli.common import AllowExtensions, checked, fail, show


class Format(StrEnum):
    """How differences are printed."""

    text = "text"
    json = "json"


def diff(
    old: Annotated[str, typer.Argument(help="Spec file, preset, .eir file, or - for standard input.")],
    new: Annotated[str, typer.Argument(help="The design to compare it with.")],
    format: Annotated[Format, typer.Option(help="How to print differences.")] = Format.text,
    seq_len: Annotated[
        int | None, typer.Option(min=1, help="Length at which work and state are counted; the shorter max_seq_len.")
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 1 if the models differ.")] = False,
    allow_extensions: AllowExtensions = False,
) -> None:
    """Compare two designs, in the terms of the language and in numbers.

    Example: eulerc diff llama-3.2-1b llama-3.1-8b --seq-len 4096
    """
    if old == new == "-":
        fail("only one of the two can be standard input", 2)
    before, after = checked(old, allow_extensions), checked(new, allow_extensions)
    for result in (before, after):
        show(result.diagnostics, result.texts)
    if before.compiled is None or after.compiled is None:
        raise typer.Exit(1)
    _check_extensions(before, after)
    from eulerc.compare.comparison import compare
    from eulerc.compare.report import as_json, as_text

    compared = compare(before, after, seq_len)
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    typer.echo(as_json(compared) if format is Format.json else as_text(compared, color=color))
    if (exit_code and not compared.is_same_model) or not (before.ok and after.ok):
        raise typer.Exit(1)


def _check_extensions(before: Linted, after: Linted) -> None:
    """Two extensions of one name cannot both be loaded: the second has taken the place of the first."""
    found = {item.stem: item.digests for item in before.loaded.extensions} if before.loaded is not None else {}
    for item in after.loaded.extensions if after.loaded is not None else ():
        if found.get(item.stem, item.digests) != item.digests:
            fail(f"the two specs have different extensions called {item.stem}: rename one of the folders", 1)
