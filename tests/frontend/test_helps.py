"""What a diagnostic's help says works when it is done, and the caret stands on what has to change."""

from __future__ import annotations

import pytest

from eulerc.api import Linted, lint
from eulerc.diagnostics.model import Diagnostic
from tests.variants.building import block, spec

MLA = "mla: {kv_rank: 16, nope_dim: 8, rope_dim: 7, v_dim: 8}"
HASHED = "type: moe, moe: {experts: 4, top_k: 2, routing: {type: hash, hash_salt: 7}, bias_correction: {}}"


def linted(text: str) -> Linted:
    return lint("spec.yaml", text.encode())


def only(text: str) -> Diagnostic:
    (found,) = linted(text).diagnostics
    return found


@pytest.mark.parametrize(
    ("mixer", "caret", "help", "followed"),
    [
        ("head_dim: 7", "7", "head_dim 8 would do", "head_dim: 8"),
        ("rope: {partial: 0.1}", "0.1", "partial 0.125 would do", "rope: {partial: 0.125}"),
        ("rope: {partial: 0.2}", "0.2", "partial 0.25 would do", "rope: {partial: 0.25}"),
        ("head_dim: 1, rope: {partial: 0.5}", "0.5", "head_dim 4 would do", "head_dim: 4, rope: {partial: 0.5}"),
        (MLA, "7", "mla.rope_dim 8 would do", MLA.replace("7", "8")),
        (
            "rope: {scaling: {rope_type: linear}}",
            None,
            "did you mean type?",
            "rope: {scaling: {type: linear, factor: 2}}",
        ),
    ],
)
def test_following_the_help_mends_the_spec(mixer: str, caret: str | None, help: str, followed: str) -> None:
    text = spec("helped", block(mixer))
    found = next(item for item in linted(text).diagnostics if help in (item.help or ""))
    span = found.primary.span
    line = text.splitlines()[span.line - 1]
    assert caret is None or line[span.column - 1 : span.end_column - 1] == caret
    assert linted(spec("helped", block(followed))).diagnostics == ()


def test_a_key_that_stands_one_level_too_high_is_sent_below() -> None:
    text = spec("misplaced", "  block:\n    mixer: {type: attention, window: 4}\n    ffn: {type: gated_mlp}\n")
    assert only(text).help == "`window` stands under `attention`"


def test_a_finding_that_differs_from_layer_to_layer_only_in_what_the_caret_says_is_told_once() -> None:
    text = spec("repeated", block("n_kv_heads: '${2 if layer.index % 2 else 4}'"))
    assert only(text).code == "E0404"


def test_an_empty_block_is_as_much_refused_as_a_full_one() -> None:
    assert only(spec("hashed", block("", HASHED))).code == "E0475"
