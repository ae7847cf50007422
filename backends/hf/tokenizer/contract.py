"""What a spec asks of its tokenizer, and what a build gets."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen


@frozen
class TokenizerContract:
    """`tokenizer_contract` of a spec.

    `pretrained` is a folder with a `tokenizer.json`, `bytes`, `byte-bpe`, `byte-bpe:FILE`, or a hub name that is
    in the local cache. `pad_token` None keeps the padding token that the tokenizer has, if it has one.
    `transition_token` ends phases of generation; a tokenizer that does not have it gets it.
    """

    pretrained: str
    add_bos: bool = True
    add_eos: bool = True
    pad_token: str | None = None
    transition_token: str | None = None


def stands_in_text(token: str) -> bool:
    """Whether a new special token of this spelling would be cut out of ordinary text."""
    return not token.strip() or token.isalnum()


@frozen
class TokenizerFiles:
    """The files to write, and the facts that a model's config repeats.

    `digest` is the SHA-256 of what the tokenizer was made from (files read, or the name of a built-in one), before the
    contract is applied. `vocab_size` is one more than the largest token id: the rows that an embedding needs.
    """

    files: Mapping[str, bytes]
    digest: str
    vocab_size: int
    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None
    unk_token_id: int | None
    transition_token_id: int | None = None


class TokenizerError(Exception):
    """A tokenizer that a build cannot have. `key` is the key of the contract that the diagnostic points at."""

    def __init__(self, code: str, message: str, help: str, key: str = "pretrained") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.help = help
        self.key = key
