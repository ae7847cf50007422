"""Apply the contract to a tokenizer and lay out its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eulerc.backends.hf.tokenizer.byte_level import added_token
from eulerc.backends.hf.tokenizer.contract import TokenizerContract, TokenizerError, TokenizerFiles, stands_in_text
from eulerc.backends.hf.tokenizer.find import Source, find, too_small, unavailable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

# They name files, classes or code of the place a tokenizer came from, or repeat tokenizer.json.
_LEFT_BEHIND = {
    "_commit_hash",
    "added_tokens_decoder",
    "auto_map",
    "fast_tokenizer_files",
    "init_inputs",
    "is_local",
    "legacy",
    "model_max_length",
    "name_or_path",
    "processor_class",
    "special_tokens_map_file",
    "tokenizer_file",
    "use_fast",
    "vocab_file",
}

_TEMPLATES = ("TemplateProcessing", "BertProcessing", "RobertaProcessing")


def prepare(
    contract: TokenizerContract,
    vocab_size: int,
    base: Path | None,
    max_seq_len: int | None = None,
) -> TokenizerFiles:
    """The tokenizer's files for a model with `vocab_size` embedding rows.

    `base` is the folder of the spec, where relative paths start; `max_seq_len` becomes `model_max_length`.
    Raises TokenizerError: E0610 (cannot be had), E0611 (more tokens than rows), E0612 (a special token that the
    contract needs does not exist or cannot serve).
    """
    source = find(contract, vocab_size, base)
    tokens = _special_tokens(source.config, contract)
    vocabulary, added = _with_special_tokens(contract, source, tokens)
    rows = 1 + max(vocabulary.values())
    if rows > vocab_size:
        raise too_small(rows, vocab_size)
    template = _template(contract, tokens, vocabulary)
    processor = _post_processor(source.definition.get("post_processor"), template)
    files = {
        "tokenizer.json": _json({**source.definition, "added_tokens": added, "post_processor": processor}),
        "tokenizer_config.json": _json(_config(source, contract, tokens, max_seq_len)),
        **source.extra,
    }
    return TokenizerFiles(
        files=files,
        digest=source.digest,
        vocab_size=rows,
        bos_token_id=vocabulary.get(tokens.get("bos_token", "")),
        eos_token_id=vocabulary.get(tokens.get("eos_token", "")),
        pad_token_id=vocabulary.get(tokens.get("pad_token", "")),
        unk_token_id=vocabulary.get(tokens.get("unk_token", "")),
        transition_token_id=vocabulary.get(contract.transition_token or ""),
    )


def _special_tokens(config: Mapping[str, Any], contract: TokenizerContract) -> dict[str, str]:
    tokens = {role: _spelling(config.get(role)) for role in _ROLES}
    if contract.pad_token is not None:
        tokens["pad_token"] = contract.pad_token
    return {role: token for role, token in tokens.items() if token is not None}


def _spelling(token: Any) -> str | None:
    # Older files write a token as an object with its stripping flags.
    spelled = token.get("content") if isinstance(token, dict) else token
    return spelled if isinstance(spelled, str) and spelled else None


def _with_special_tokens(
    contract: TokenizerContract, source: Source, tokens: Mapping[str, str]
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """The vocabulary and the list of added tokens, once every special token is in them.

    transformers would enter the missing ones when it loads the files, with ids that no embedding row answers.
    """
    tokenizer = _tokenizer(contract.pretrained, source.definition)
    before = tokenizer.get_vocab(with_added_tokens=True)
    added = list(source.definition.get("added_tokens") or ())
    special = {entry["content"] for entry in added}
    _check_own_token("pad_token", contract.pad_token, before, special)
    _check_own_token("transition.token", contract.transition_token, before, special)
    _check_ends(contract.transition_token, tokens)
    own = [token for token in (contract.transition_token,) if token is not None]
    wanted = dict.fromkeys([*tokens.values(), *_extra_tokens(source.config), *own])
    missing = [token for token in wanted if token not in before]
    tokenizer.add_special_tokens(missing)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return vocabulary, [*added, *(added_token(token, vocabulary[token]) for token in missing)]


def _extra_tokens(config: Mapping[str, Any]) -> list[str]:
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or ()
    spelled = map(_spelling, extra.values() if isinstance(extra, dict) else extra)
    return [token for token in spelled if token is not None]


def _tokenizer(name: str, definition: Mapping[str, Any]) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(json.dumps(definition))
    except Exception as error:  # the library raises nothing narrower
        raise unavailable(f"`tokenizer.json` of `{name}` is not a tokenizer: {error}") from error
    if not tokenizer.get_vocab_size(with_added_tokens=True):
        raise unavailable(f"`tokenizer.json` of `{name}` has an empty vocabulary")
    return tokenizer


def _check_own_token(key: str, token: str | None, vocabulary: Mapping[str, int], added: set[str]) -> None:
    """Refuses a token of the spec's own that texts may hold."""
    if token is None or token in added:
        return
    if token not in vocabulary and not stands_in_text(token):
        return
    message = f"{key} `{token}` stands in ordinary text" if token.strip() else f"{key} is blank"
    example = "<|pad|>" if key == "pad_token" else "<think_end>"
    help = f"name a special token of the tokenizer, or one that it does not have yet, such as `{example}`"
    raise TokenizerError("E0612", message, help, key)


def _check_ends(transition: str | None, tokens: Mapping[str, str]) -> None:
    """Phases end with a token of their own, and the last with that of the sequence."""
    if transition is None:
        return
    if "eos_token" not in tokens:
        help = "choose a tokenizer that has an eos_token, or set transition.type to budget_exhausted"
        raise TokenizerError("E0612", "the last phase ends with an eos_token, and there is none", help)
    for role in ("bos_token", "eos_token", "pad_token"):
        if tokens.get(role) == transition:
            help = "name a token that the tokenizer does not have yet, such as `<think_end>`"
            message = f"transition.token `{transition}` is the {role} too"
            raise TokenizerError("E0612", message, help, "transition.token")


def _template(
    contract: TokenizerContract, tokens: Mapping[str, str], vocabulary: Mapping[str, int]
) -> dict[str, Any] | None:
    """The step after encoding that puts bos and eos around a text."""
    bos = _required("bos", tokens) if contract.add_bos else None
    eos = _required("eos", tokens) if contract.add_eos else None
    names = [token for token in (bos, eos) if token is not None]
    if not names:
        return None
    return {
        "type": "TemplateProcessing",
        "single": _around("A", 0, bos, eos),
        "pair": [*_around("A", 0, bos, eos), *_around("B", 1, bos, eos)],
        "special_tokens": {name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]} for name in names},
    }


def _required(which: str, tokens: Mapping[str, str]) -> str:
    token = tokens.get(f"{which}_token")
    if token is None:
        message = f"add_{which} is on, and the tokenizer has no {which}_token"
        raise TokenizerError("E0612", message, f"write `add_{which}: false`", f"add_{which}")
    return token


def _around(sequence: str, type_id: int, bos: str | None, eos: str | None) -> list[dict[str, Any]]:
    pieces = [("SpecialToken", bos), ("Sequence", sequence), ("SpecialToken", eos)]
    return [{kind: {"id": name, "type_id": type_id}} for kind, name in pieces if name is not None]


def _post_processor(present: Mapping[str, Any] | None, template: dict[str, Any] | None) -> Mapping[str, Any] | None:
    """What the tokenizer did after encoding, with `template` in the place of its own."""
    steps = [step for step in _steps(present) if step["type"] not in _TEMPLATES]
    if template is not None:
        steps.append(template)
    if len(steps) > 1:
        return {"type": "Sequence", "processors": steps}
    return steps[0] if steps else None


def _steps(processor: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if processor is None:
        return []
    return list(processor["processors"]) if processor["type"] == "Sequence" else [processor]


def _config(
    source: Source, contract: TokenizerContract, tokens: Mapping[str, str], max_seq_len: int | None
) -> dict[str, Any]:
    config = {key: value for key, value in source.config.items() if key not in _LEFT_BEHIND | set(_ROLES)}
    # transformers takes these two from tokenizer.json; serving engines and converters read them here.
    config |= {"add_bos_token": contract.add_bos, "add_eos_token": contract.add_eos}
    config |= {**tokens, "tokenizer_class": "PreTrainedTokenizerFast"}
    if max_seq_len is not None:
        config["model_max_length"] = max_seq_len
    return dict(sorted(config.items()))


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
