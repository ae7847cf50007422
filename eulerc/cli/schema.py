"""`eulerc schema`"""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON Schema of the language.

    Example: eulerc schema > eulerc.schema.json
    """
    from eulerc.reference import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
