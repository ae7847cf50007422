"""Entry point: `eulerc COMMAND`. Exit codes: 0 ok, 1 errors found, 2 usage or a fault of eulerc itself."""

from __future__ import annotations

import sys

import typer

from eulerc.cli.build import build
from eulerc.cli.dump_ir import dump_ir
from eulerc.cli.explain import explain
from eulerc.cli.lint import lint
from eulerc.cli.presets import presets
from eulerc.cli.schema import schema
from eulerc.cli.stats import stats
from eulerc.cli.verify import verify

app = typer.Typer(
    name="eulerc",
    help="Compiles YAML descriptions of decoder-only language models into Hugging Face model directories.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(build)
app.command()(lint)
app.command("dump-ir")(dump_ir)
app.command()(stats)
app.command()(verify)
app.add_typer(presets, name="presets")
app.command()(explain)
app.command()(schema)


def main() -> None:
    """Runs the command line."""
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stderr.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    app()


if __name__ == "__main__":
    main()
