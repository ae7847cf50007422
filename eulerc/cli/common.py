"""What commands share: reading a source, showing findings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from eulerc.api import Linted, compile, lint
from eulerc.diagnostics.model import Diagnostic, Diagnostics
from eulerc.diagnostics.render import render, summary
from eulerc.diagnostics.suggest import closest
from eulerc.ir.core import Module
from eulerc.presets.catalogue import catalogue

AllowExtensions = Annotated[
    bool, typer.Option("--allow-extensions", help="Run the Python of extensions that stand beside a spec.")
]


def checked(source: str, allow_extensions: bool = False) -> Linted:
    """Lints a file, a preset, or standard input (`-`); a missing source is a usage error."""
    text = sys.stdin.buffer.read() if source == "-" else None
    try:
        return lint("<stdin>" if source == "-" else source, text, allow_extensions=allow_extensions)
    except FileNotFoundError:
        suggestion = closest(source, catalogue())
        hint = f"; did you mean {suggestion}?" if suggestion else "; see `eulerc presets list`"
        fail(f"{source} is neither a file nor a preset{hint}", 2)
    except (OSError, UnicodeError) as error:
        fail(f"cannot read {source}: {error.strerror if isinstance(error, OSError) else error}", 2)


def fail(message: str, code: int) -> NoReturn:
    """Prints an error and leaves with `code`."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


def show(diagnostics: Sequence[Diagnostic], texts: dict[str, str]) -> None:
    """Prints findings to stderr."""
    if diagnostics:
        color = sys.stderr.isatty()
        typer.echo(render(diagnostics, texts, color=color).rstrip("\n"), err=True)
        typer.echo(summary(diagnostics), err=True)


def compiled(source: str, stage: str = "module", allow_extensions: bool = False) -> Module:
    """The module of a source at `stage`; findings go to stderr, errors end the command with 1."""
    result = checked(source, allow_extensions)
    show(result.diagnostics, result.texts)
    if result.loaded is None or result.module is None:
        raise typer.Exit(1)
    if stage == "module":
        return result.module
    module = compile(result.loaded, Diagnostics(), stage)
    if module is None:
        raise typer.Exit(1)
    if module.stage != stage:
        fail(f"{source} is at stage {module.stage}, which is past {stage}", 2)
    return module
