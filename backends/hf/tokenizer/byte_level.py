"""Tokenizers that need no download: the 256 bytes, and byte-level BPE trained on a given text.

Ids 0 to 255 are the bytes themselves, the special tokens follow, then the merged tokens in the order of training; so
`bytes` is the BPE without merges, and a larger vocabulary keeps the ids of a smaller one.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"


@frozen
class ByteLevel:
    """A tokenizer's `tokenizer.json` (`definition`) and `tokenizer_config.json` (`config`) as data."""

    definition: dict[str, Any]
    config: dict[str, Any]


def byte_symbols() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's table).

    Printable Latin-1 bytes stand for themselves, the others for the characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(0x100 + hidden.index(byte)) for byte in range(256)]


def bytes_only(pad_token: str) -> ByteLevel:
    """One token for each byte."""
    return _assemble(merges=[], pad_token=pad_token, split_words=False)


def trained(text: str, vocab_size: int, pad_token: str) -> ByteLevel:
    """Byte-level BPE with up to `vocab_size` tokens (fewer when `text` has no more repeated pairs).

    Sennrich et al., 2016 (arXiv:1508.07909), on bytes; words are split as in GPT-2.
    """
    room = vocab_size - 256 - len({BOS, EOS, pad_token})
    return _assemble(_merges(text, room), pad_token, split_words=True)


def _merges(text: str, count: int) -> list[tuple[str, str]]:
    # Only the merges are taken from the library: the file's layout is then ours, whatever release trained it.
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=256 + count,
        min_frequency=2,
        initial_alphabet=byte_symbols(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


def _assemble(merges: list[tuple[str, str]], pad_token: str, *, split_words: bool) -> ByteLevel:
    ordinary = [*byte_symbols(), *(left + right for left, right in merges)]
    special = [token for token in dict.fromkeys((BOS, EOS, pad_token)) if token not in set(ordinary)]
    # Two merges may spell one token, hence dict.fromkeys.
    tokens = dict.fromkeys([*ordinary[:256], *special, *ordinary[256:]])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(token, vocabulary[token]) for token in special],
        "normalizer": None,
        "pre_tokenizer": _byte_level(use_regex=split_words),
        "post_processor": None,
        "decoder": _byte_level(use_regex=True),
        "model": _bpe(vocabulary, merges),
    }
    config = {
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": pad_token,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
    }
    return ByteLevel(definition, config)


def added_token(token: str, index: int) -> dict[str, Any]:
    """A special token as `tokenizer.json` lists it."""
    return {
        "id": index,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": [list(merge) for merge in merges],
    }
