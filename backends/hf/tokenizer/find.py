"""Where a tokenizer comes from: a built-in name, a folder, the local hub cache; never the network."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from attrs import field, frozen

from eulerc.backends.hf.tokenizer import byte_level
from eulerc.backends.hf.tokenizer.contract import TokenizerContract, TokenizerError, stands_in_text

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRAINED = "byte-bpe"
_CONFIG_FILES = ("special_tokens_map.json", "tokenizer_config.json")

_WAYS_OUT = (
    "give the path of a folder that holds tokenizer.json, write `pretrained: byte-bpe` to train one during the build, "
    "or build with --no-tokenizer"
)


@frozen
class Source:
    """A tokenizer before the contract is applied: `tokenizer.json`, its config, further files, and their digest."""

    definition: dict[str, Any]
    config: dict[str, Any]
    digest: str
    extra: Mapping[str, bytes] = field(factory=dict)


def find(contract: TokenizerContract, vocab_size: int, base: Path | None) -> Source:
    """The tokenizer that `contract.pretrained` names; relative paths start at `base`, the folder of the spec.

    Built-in names come first, so that no folder of that name can change what a spec means (`./bytes` is the folder).
    """
    name = contract.pretrained
    if name == "bytes" or name.partition(":")[0] == _TRAINED:
        return _built_in(contract, vocab_size, base)
    folder = _local_folder(name, base) or _cached_folder(name)
    if folder is None:
        raise unavailable(_absence(name, base))
    return _from_folder(name, folder)


def _absence(name: str, base: Path | None) -> str:
    if base is not None and os.path.isdir(base / name):
        return f"the folder `{name}` holds no tokenizer.json"
    return f"no tokenizer `{name}` beside the spec or in the local hub cache"


def unavailable(message: str) -> TokenizerError:
    """E0610: the tokenizer cannot be had."""
    return TokenizerError("E0610", message, _WAYS_OUT)


def too_small(tokens: int, vocab_size: int) -> TokenizerError:
    """E0611: the model has fewer embedding rows than the tokenizer has tokens."""
    message = f"vocab_size {vocab_size} is smaller than the tokenizer's {tokens} tokens"
    rounded = -(-tokens // 64) * 64
    return TokenizerError("E0611", message, f"vocab_size can be {tokens} or more; {rounded} is a multiple of 64")


def _built_in(contract: TokenizerContract, vocab_size: int, base: Path | None) -> Source:
    pad_token = contract.pad_token
    if pad_token is None or stands_in_text(pad_token):
        pad_token = byte_level.PAD
    smallest = byte_level.bytes_only(pad_token)
    known = smallest.definition["model"]["vocab"]
    own = [token for token in (contract.transition_token,) if token is not None and token not in known]
    if vocab_size < (needed := len(known) + len(own)):
        raise too_small(needed, vocab_size)
    if contract.pretrained == "bytes":
        return Source(smallest.definition, smallest.config, _digest({"bytes": b""}))
    text = _training_text(contract.pretrained, base)
    trained = byte_level.trained(text, vocab_size - len(own), pad_token)
    return Source(trained.definition, trained.config, _digest({_TRAINED: text.encode()}))


def _training_text(name: str, base: Path | None) -> str:
    _, colon, written = name.partition(":")
    if not colon:
        return resources.files("eulerc.backends.hf.tokenizer").joinpath("corpus.txt").read_text("utf-8")
    path = _inside(written, base)
    try:
        # Bytes, since text mode would turn \r\n into \n on the way.
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise unavailable(f"the training text `{written}` cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise unavailable(f"the training text `{written}` is not UTF-8 at byte {error.start}") from error
    if not text:
        raise unavailable(f"the training text `{written}` is empty")
    return text


def _inside(written: str, base: Path | None) -> Path:
    # A spec is untrusted: the merges of a text say what stands in it, so only the spec's own folder is read.
    if base is None:
        raise unavailable(f"the training text `{written}` has no folder to start from")
    if "\0" in written:
        raise unavailable(f"the training text {written!r} is no path")
    path = Path(os.path.realpath(base / written))
    if not path.is_relative_to(os.path.realpath(base)):
        raise unavailable(f"the training text `{written}` lies outside the folder of the spec")
    return path


def _local_folder(name: str, base: Path | None) -> Path | None:
    path = Path(name)
    if not path.is_absolute():
        if base is None:
            return None
        path = base / path
    # os.path answers False where pathlib raises: names too long, of odd characters, or not to be entered.
    return path if os.path.isfile(path / "tokenizer.json") else None


def _cached_folder(name: str) -> Path | None:
    """The snapshot that `main` of a hub repository points at, in the layout of `huggingface_hub`'s cache."""
    if not _HUB_NAME.fullmatch(name):
        return None
    repository = _hub_cache() / f"models--{name.replace('/', '--')}"
    try:
        commit = (repository / "refs" / "main").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    folder = repository / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and (folder / "tokenizer.json").is_file() else None


def _hub_cache() -> Path:
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    parent = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(parent, "huggingface")
    return Path(home).expanduser() / "hub"


def _from_folder(name: str, folder: Path) -> Source:
    names = ("tokenizer.json", *_CONFIG_FILES, "chat_template.jinja")
    try:
        files = {file: (folder / file).read_bytes() for file in names if (folder / file).is_file()}
    except OSError as error:
        raise unavailable(f"the folder `{name}` cannot be read: {error.strerror}") from error
    config: dict[str, Any] = {}
    for file in _CONFIG_FILES:
        config |= _parsed(name, file, files.get(file, b"{}"))
    extra = {file: content for file, content in files.items() if file.endswith(".jinja")}
    return Source(_parsed(name, "tokenizer.json", files["tokenizer.json"]), config, _digest(files), extra)


def _parsed(name: str, file: str, content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
        # NaN and lone surrogates can be read, but not written.
        json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise unavailable(f"`{file}` of `{name}` is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise unavailable(f"`{file}` of `{name}` holds no JSON object")
    return parsed


def _digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()
