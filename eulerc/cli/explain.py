"""`eulerc explain CODE|OP|KEY`"""

from __future__ import annotations

from typing import Annotated

import typer

from eulerc.cli.common import fail
from eulerc.diagnostics.suggest import closest
from eulerc.reference import explain_key, explain_op, keys, page_of


def explain(name: Annotated[str, typer.Argument(help="An error code, an op, or a key of the language.")]) -> None:
    """Explain an error code, an op, or a key of the language.

    Example: eulerc explain E0312
    """
    from eulerc.ir.definition import definitions

    text = page_of(name.upper())
    if text is None and name in definitions():
        text = explain_op(name)
    if text is None:
        text = explain_key(name)
    if text is None:
        last_words = (path.rpartition(".")[2] for path in keys())
        suggestion = closest(name, [*definitions(), *keys(), *last_words])
        fail(f"nothing is called {name}" + (f"; did you mean {suggestion}?" if suggestion else ""), 2)
    typer.echo(text.rstrip("\n"))
