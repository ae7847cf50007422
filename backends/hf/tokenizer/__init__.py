"""The tokenizer of a build: found or trained without a network, and made to keep what the contract says."""

from eulerc.backends.hf.tokenizer.contract import TokenizerContract, TokenizerError, TokenizerFiles
from eulerc.backends.hf.tokenizer.write import prepare

__all__ = ["TokenizerContract", "TokenizerError", "TokenizerFiles", "prepare"]
