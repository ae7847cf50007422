"""Names of the generated file: class prefix, file stem."""

from __future__ import annotations

import keyword
import re

from eulerc.ir.library_names import MODEL_TYPES

MANGLED = ("mamba", "minimax", "rwkv", "xlstm", "reformer", "xlnet")
"""Words in class names by which transformers' `generate` chooses a cache; a separator takes their meaning."""


def camel(name: str) -> str:
    """`local_attention` as `LocalAttention`."""
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", name))


def class_prefix(name: str) -> str:
    """The prefix of all class names: ASCII, not a keyword, free of words that transformers reads meaning into."""
    prefix = camel(_own(name))
    if not prefix or prefix[0].isdigit():
        prefix = f"M{prefix}"
    for word in MANGLED:
        prefix = re.sub(word, lambda match: f"{match.group(0)[:2]}_{match.group(0)[2:]}", prefix, flags=re.IGNORECASE)
    return f"{prefix}Model" if keyword.iskeyword(prefix) else prefix


def stem(name: str) -> str:
    """The file's stem and the model type: `smollm2_135m`."""
    words = _snake(_own(name))
    return f"m{words}" if words[:1].isdigit() or not words else words


def _snake(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()


def _own(name: str) -> str:
    """A name of its own: where the library has a model type of that name it would load its class, and not the file."""
    return f"{name} custom" if _snake(name).replace("_", "") in MODEL_TYPES else name
