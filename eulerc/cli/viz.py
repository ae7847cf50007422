"""`eulerc viz SPEC`"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from eulerc.cli.common import AllowExtensions, checked, fail, show


class Format(StrEnum):
    """What a picture is written as."""

    svg = "svg"
    mermaid = "mermaid"


SUFFIXES = {".svg": Format.svg, ".mmd": Format.mermaid, ".mermaid": Format.mermaid}


def viz(
    spec: Annotated[str, typer.Argument(help="Spec file, preset, .eir file, or - for standard input.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, .svg or .mmd; standard output if not set.")
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="What to write; by the file's suffix if not set, and svg without a file.")
    ] = None,
    allow_extensions: AllowExtensions = False,
) -> None:
    """Draw the architecture: its layers by depth, and a card for every distinct block.

    Example: eulerc viz gemma-2-2b -o gemma.svg
    """
    chosen = format or _by_suffix(output)
    result = checked(spec, allow_extensions)
    show(result.diagnostics, result.texts)
    if result.compiled is None:
        raise typer.Exit(1)
    if chosen is Format.svg:
        from eulerc.viz.svg import svg as draw
    else:
        from eulerc.viz.mermaid import mermaid as draw
    picture = draw(result.compiled)
    if output is None:
        typer.echo(picture, nl=False)
    else:
        _write(output, picture)
    if not result.ok:
        raise typer.Exit(1)


def _write(output: Path, picture: str) -> None:
    try:
        output.write_bytes(picture.encode())
    except OSError as error:
        fail(f"cannot write {output}: {error.strerror}", 1)


def _by_suffix(output: Path | None) -> Format:
    if output is None:
        return Format.svg
    if output.suffix.lower() not in SUFFIXES:
        fail(f"{output} is neither .svg nor .mmd; say --format svg or --format mermaid", 2)
    return SUFFIXES[output.suffix.lower()]
