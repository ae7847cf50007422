"""From a module to a model directory: code, config, weights, tokenizer, card."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

from eulerc import __version__
from eulerc.backends.hf.card import PICTURE, model_card
from eulerc.backends.hf.config_json import config_json, generation_config_json
from eulerc.backends.hf.emit.facts import Model
from eulerc.backends.hf.emit.file import modeling_files
from eulerc.backends.hf.exchange import staged
from eulerc.backends.hf.tokenizer import TokenizerContract, TokenizerFiles, prepare
from eulerc.backends.hf.training import training_files
from eulerc.frontend.compose import Spec, flatten
from eulerc.ir.core import Module
from eulerc.ir.extensions import extensions_of
from eulerc.ir.numbers import tensor_plan
from eulerc.ir.phases import phases_of
from eulerc.viz.svg import svg

Progress = Callable[[int, int], None]


class Origin(Protocol):
    """Where a module came from: what `eulerc.api.load` gives."""

    @property
    def name(self) -> str: ...
    @property
    def texts(self) -> dict[str, str]: ...
    @property
    def digests(self) -> dict[str, str]: ...
    @property
    def base(self) -> Path | None: ...
    @property
    def spec(self) -> Spec | None: ...


@frozen
class Options:
    """How to build. `weights` is `random` or `none`, `layout` is `single` or `split`; None leaves the spec's value."""

    weights: str = "random"
    dtype: str | None = None
    seed: int | None = None
    layout: str = "single"
    tokenizer: bool = True
    force: bool = False
    progress: Progress | None = None


def with_options(module: Module, options: Options) -> Module:
    """The module with dtype and seed replaced."""
    from attrs import evolve

    from eulerc.ir.core import Block

    changes: dict[str, Any] = {}
    if options.dtype is not None:
        changes["dtype"] = options.dtype
    if options.seed is not None:
        changes["seed"] = options.seed
    if not changes:
        return module
    ops = tuple(op.replacing(**changes) if op.name == "spec" else op for op in module.model.ops)
    return evolve(module, model=evolve(module.model, body=Block(ops=ops)))


def tokenizer_files(module: Module, base: Path | None) -> TokenizerFiles | None:
    """The tokenizer's files, or None where the spec has no contract. Raises TokenizerError."""
    spec = module.one("spec")
    for op in module.all("tokenizer"):
        phases = phases_of(module)
        transition = None if phases is None else phases.token
        contract = TokenizerContract(op["pretrained"], op["add_bos"], op["add_eos"], op["pad_token"], transition)
        head = next(op for op in module.one("graph").ops if op.name == "unembed")
        return prepare(contract, int(head["tokens"] or spec["vocab_size"]), base, int(spec["max_seq_len"]))
    return None


def special_ids(module: Module, tokenizer: TokenizerFiles | None) -> dict[str, int | None]:
    """The ids of special tokens that stand in the config."""
    names = ["pad_token_id", "bos_token_id", "eos_token_id"]
    phases = phases_of(module)
    if phases is not None and phases.token is not None:
        names.append("transition_token_id")
    return {name: None if tokenizer is None else getattr(tokenizer, name) for name in names}


def text_files(module: Module, origin: Origin, options: Options) -> dict[str, bytes]:
    """Every file but the weights and `eulerc.json`. Raises TokenizerError."""
    model = Model(module)
    tokenizer = tokenizer_files(module, origin.base) if options.tokenizer else None
    ids = special_ids(module, tokenizer)
    source_name, source = _source(module, origin)
    files = modeling_files(model, ids, source_name, options.layout)
    files["config.json"] = config_json(model, ids, options.layout)
    files["generation_config.json"] = generation_config_json(ids, caches=not model.adaptive)
    files |= {name: text.encode() for name, text in training_files(module, model).items()}
    files[source_name] = source.encode()
    files |= dict(tokenizer.files) if tokenizer is not None else {}
    files |= {name: data for extension in extensions_of(module) for name, data in extension.files.items()}
    files[PICTURE] = svg(module).encode()
    files["README.md"] = model_card(module, model, source_name, source).encode()
    return dict(sorted(files.items()))


def _source(module: Module, origin: Origin) -> tuple[str, str]:
    if origin.spec is not None:
        return "spec.yaml", flatten(origin.spec)
    return "spec.eir", next(iter(origin.texts.values()))


def manifest(module: Module, origin: Origin, digests: dict[str, str], options: Options) -> bytes:
    """`eulerc.json`: version, digests of sources and files, tensor map."""
    tensors = {
        plan.name: {
            "shape": list(plan.shape),
            "dtype": plan.dtype,
            **({"tied_to": plan.tied_to} if plan.tied_to else {}),
        }
        for plan in tensor_plan(module)
    }
    content = {
        "eulerc": __version__,
        "sources": dict(sorted(origin.digests.items())),
        "options": {"weights": options.weights, "layout": options.layout, "seed": module.one("spec")["seed"]},
        "files": dict(sorted(digests.items())),
        "tensors": tensors,
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def build(module: Module, origin: Origin, directory: Path, options: Options) -> None:
    """Builds into a directory, all or nothing. Raises OutputError and TokenizerError."""
    module = with_options(module, options)
    files = text_files(module, origin, options)
    with staged(directory, force=options.force) as staging:
        digests = {}
        for name, data in files.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).write_bytes(data)
            digests[name] = sha256(data).hexdigest()
        if options.weights == "random":
            from eulerc.backends.hf.weights.stream import write_weights

            digests |= write_weights(
                staging, list(tensor_plan(module)), int(module.one("spec")["seed"]), options.progress
            )
        (staging / "eulerc.json").write_bytes(manifest(module, origin, digests, options))


def difference(module: Module, origin: Origin, directory: Path, options: Options) -> dict[str, tuple[str, str]]:
    """The text files of `directory` that are not what the spec gives: name to (there, expected)."""
    files = text_files(with_options(module, options), origin, options)
    found = {}
    for name, data in files.items():
        path = directory / name
        there = path.read_bytes() if path.is_file() else b""
        if there != data:
            found[name] = (there.decode("utf-8", "replace"), data.decode("utf-8", "replace"))
    return found
