"""`eulerc build SPEC --emit hf -o DIR`"""

from __future__ import annotations

import sys
from collections.abc import Callable
from difflib import unified_diff
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eulerc.cli.common import AllowExtensions, checked, fail, show

if TYPE_CHECKING:
    from eulerc.api import Loaded
    from eulerc.backends.hf.build import Options
    from eulerc.ir.core import Module


class Emit(StrEnum):
    """What to write."""

    hf = "hf"
    modeling = "modeling"
    config = "config"


class Weights(StrEnum):
    """Which weights to write."""

    random = "random"
    none = "none"


class Dtype(StrEnum):
    """Dtype of the weights."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class Layout(Enum):
    """One Python file, or config and model apart."""

    single = "single"
    split = "split"


def build(
    spec: Annotated[str, typer.Argument(help="Spec file, preset, .eir file, or - for standard input.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory; with --emit modeling or config a file or -.")
    ],
    emit: Annotated[Emit, typer.Option(help="What to write.")] = Emit.hf,
    weights: Annotated[Weights, typer.Option(help="Random weights, or none.")] = Weights.random,
    dtype: Annotated[Dtype | None, typer.Option(help="Dtype of the weights; the spec's if not given.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the weights; the spec's if not given.")] = None,
    layout: Annotated[Layout, typer.Option(help="One Python file, or two.")] = Layout.single,
    no_tokenizer: Annotated[bool, typer.Option("--no-tokenizer", help="Leave the tokenizer out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a directory that eulerc did not make.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 with a diff if the output differs.")
    ] = False,
    allow_extensions: AllowExtensions = False,
) -> None:
    """Build a Hugging Face model directory.

    Example: eulerc build smollm2-135m --emit hf -o out/smollm2
    """
    from eulerc.backends.hf.build import Options

    if str(output) == "-" and (emit is Emit.hf or check):
        fail("only the one file of --emit modeling or config can go to standard output", 2)
    options = Options(
        weights=weights.value,
        dtype=dtype.value if dtype else None,
        seed=seed,
        layout=layout.value,
        tokenizer=not no_tokenizer,
        force=force,
        progress=_progress() if sys.stderr.isatty() else None,
    )
    result = checked(spec, allow_extensions)
    show(result.diagnostics, result.texts)
    if result.module is None or result.loaded is None:
        raise typer.Exit(1)
    _run(result.module, result.loaded, output, emit, options, check)


def _run(module: Module, loaded: Loaded, output: Path, emit: Emit, options: Options, check: bool) -> None:
    from eulerc.backends.hf import build as backend
    from eulerc.backends.hf.exchange import OutputError
    from eulerc.backends.hf.source_edit import SpecialiseError
    from eulerc.backends.hf.tokenizer import TokenizerError

    try:
        if emit is not Emit.hf:
            files = backend.text_files(backend.with_options(module, options), loaded, options)
            _single(files, emit, output, check)
        elif check:
            _check(backend.difference(module, loaded, output, options))
        else:
            backend.build(module, loaded, output, options)
            _verdict(module)
            typer.echo(f"wrote {output}", err=True)
    except (OutputError, TokenizerError) as error:
        typer.echo(
            f"error[{error.code}]: {error.message}" + (f"\n  = help: {error.help}" if error.help else ""), err=True
        )
        raise typer.Exit(1) from error
    except SpecialiseError as error:
        if not loaded.extensions:
            raise
        fail(f"the component of an extension cannot be linked: {error}", 1)
    except OSError as error:
        fail(f"cannot write {output}: {error.strerror}", 1)


def _verdict(module: Module) -> None:
    """Which engines run what was built, on stderr."""
    from eulerc.backends.hf.portability import lines, verdicts

    typer.echo("\n".join(lines(verdicts(module))), err=True)


def _single(files: dict[str, bytes], emit: Emit, output: Path, check: bool) -> None:
    name = "config.json" if emit is Emit.config else next(name for name in files if name.startswith("modeling_"))
    if str(output) == "-":
        typer.echo(files[name].decode(), nl=False)
        return
    if not check:
        output.write_bytes(files[name])
        typer.echo(f"wrote {output}", err=True)
        return
    there = output.read_bytes() if output.is_file() else b""
    if there != files[name]:
        _check({output.name: (there.decode("utf-8", "replace"), files[name].decode())})


def _check(differences: dict[str, tuple[str, str]]) -> None:
    for name, (there, expected) in differences.items():
        lines = unified_diff(
            there.splitlines(), expected.splitlines(), f"there/{name}", f"expected/{name}", lineterm=""
        )
        typer.echo("\n".join(lines))
    if differences:
        raise typer.Exit(1)


def _progress() -> Callable[[int, int], None]:
    def advance(done: int, total: int) -> None:
        share = done / total if total else 1.0
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\rweights {done / 1e6:.0f} of {total / 1e6:.0f} MB [{'#' * int(30 * share):<30}]{end}")
        sys.stderr.flush()

    return advance
