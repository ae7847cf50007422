"""`eulerc dump-ir SPEC`"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from eulerc.cli.common import AllowExtensions, compiled


class Stage(StrEnum):
    """A stage of the IR."""

    arch = "arch"
    layers = "layers"
    module = "module"


def dump_ir(
    spec: Annotated[str, typer.Argument(help="Spec file, preset, .eir file, or - for standard input.")],
    stage: Annotated[Stage, typer.Option(help="Stage to print.")] = Stage.layers,
    locs: Annotated[bool, typer.Option("--locs", help="Print where each op was written.")] = False,
    annotate: Annotated[bool, typer.Option("--annotate", help="Print parameters, work and state of each op.")] = False,
    allow_extensions: AllowExtensions = False,
) -> None:
    """Print the intermediate representation of a spec.

    Example: eulerc dump-ir smollm2-135m --stage layers --annotate
    """
    from eulerc.ir.annotate import op_notes
    from eulerc.ir.compact import compact
    from eulerc.ir.printer import print_module

    module = compact(compiled(spec, stage.value, allow_extensions))
    notes = op_notes(module) if annotate else None
    typer.echo(print_module(module, locs=locs, annotations=notes), nl=False)
