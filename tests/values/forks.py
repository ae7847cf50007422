"""Streams of layers."""

from typing import Any

from hypothesis import strategies as st


def streams(*bodies: str) -> list[Any]:
    """Streams called a, b, ... of one layer each."""
    return [{"stream": name, "body": [{"template": body}]} for name, body in zip("abc", bodies, strict=False)]


DRAWN = {
    "merge": st.sampled_from(
        [
            {},
            {"type": "concat", "projection": True},
            {"type": "add"},
            {"type": "gated"},
            {"type": "cross_attn"},
            {"type": "cross_attn", "from": "b", "to": "a"},
        ]
    )
}
TRIED = {
    "parallel": [streams("other", "block"), streams("block", "block"), streams("block", "other", "block")],
    "merge": [
        {"type": "add"},
        {"type": "gated"},
        {"projection": False},
        {"type": "cross_attn"},
        {"type": "cross_attn", "from": "b", "to": "a"},
        {"type": "cross_attn", "from": "c", "to": "a"},
    ],
}
FORKED: dict[tuple[str, ...], Any] = {
    ("layer_schedule", "template"): None,
    ("layer_schedule", "repeat"): None,
    ("layer_schedule", "parallel"): streams("block", "other"),
}
NEEDED = {("layer_schedule", "parallel"): FORKED, ("layer_schedule", "merge"): FORKED}
