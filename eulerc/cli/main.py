"""Entry point: `eulerc COMMAND`. Exit codes: 0 ok, 1 errors found, 2 usage or a fault of eulerc itself."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType
from typing import Annotated

import typer
from typer.main import get_command

from eulerc import __version__
from eulerc.cli.build import build
from eulerc.cli.diff import diff
from eulerc.cli.dump_ir import dump_ir
from eulerc.cli.explain import explain
from eulerc.cli.lint import lint
from eulerc.cli.presets import presets
from eulerc.cli.schema import schema
from eulerc.cli.stats import stats
from eulerc.cli.verify import verify
from eulerc.cli.viz import viz

app = typer.Typer(
    name="eulerc",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(build)
app.command()(lint)
app.command("dump-ir")(dump_ir)
app.command()(stats)
app.command()(diff)
app.command()(viz)
app.command()(verify)
app.add_typer(presets, name="presets")
app.command()(explain)
app.command()(schema)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eulerc {__version__}")
        raise typer.Exit


@app.callback(epilog="Example: eulerc build smollm2-135m -o out/smollm2")
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Compiles YAML descriptions of decoder-only language models into Hugging Face model directories."""


def main() -> None:
    """Runs the command line."""
    for stream in (sys.stdout, sys.stderr):
        # File names may hold bytes that are no text.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    sys.excepthook = _fault
    # Calling `app` itself would put typer's own hook there.
    get_command(app)()


def _fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ends with 2 where Python would with 1, which means errors in a spec."""
    traceback.print_exception(kind, error, trace)
    typer.echo("error: this is a fault of eulerc itself; the lines above say where", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


if __name__ == "__main__":
    main()
