"""`eulerc lint SPEC...`"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from eulerc import __version__
from eulerc.cli.common import AllowExtensions, checked, show
from eulerc.diagnostics.model import Diagnostic
from eulerc.ir.core import Module


class Format(StrEnum):
    """How findings are printed."""

    text = "text"
    concise = "concise"
    json = "json"
    github = "github"
    sarif = "sarif"


class FailOn(StrEnum):
    """From which severity on the exit code is 1."""

    error = "error"
    warning = "warning"


def lint(
    specs: Annotated[list[str], typer.Argument(help="Spec files, presets, .eir files, or - for standard input.")],
    format: Annotated[Format, typer.Option(help="How to print findings.")] = Format.text,
    fail_on: Annotated[FailOn, typer.Option(help="Severity from which on the exit code is 1.")] = FailOn.error,
    portability: Annotated[bool, typer.Option("--portability", help="Print which engines run the model.")] = False,
    allow_extensions: AllowExtensions = False,
) -> None:
    """Check specs against every rule of the language.

    Example: eulerc lint spec.yaml --format github --fail-on warning
    """
    findings: list[Diagnostic] = []
    texts: dict[str, str] = {}
    for spec in specs:
        result = checked(spec, allow_extensions)
        findings += result.diagnostics
        texts |= result.texts
        if portability and result.compiled is not None:
            _print_verdicts(spec, result.compiled)
    _print(findings, texts, format)
    bad = ("error",) if fail_on is FailOn.error else ("error", "warning")
    if any(item.severity in bad for item in findings):
        raise typer.Exit(1)


def _print_verdicts(spec: str, module: Module) -> None:
    """The portability verdict of one spec, on stderr beside the findings."""
    from eulerc.backends.hf.portability import lines, verdicts

    typer.echo("\n".join((f"{spec}:", *(f"  {line}" for line in lines(verdicts(module))))), err=True)


def _print(findings: list[Diagnostic], texts: dict[str, str], format: Format) -> None:
    if format is Format.text:
        show(findings, texts)
        return
    from eulerc.diagnostics import formats

    printed = {
        Format.concise: lambda: formats.concise(findings),
        Format.json: lambda: formats.as_json(findings),
        Format.github: lambda: formats.github(findings),
        Format.sarif: lambda: formats.sarif(findings, __version__),
    }[format]()
    typer.echo(printed.rstrip("\n"))
