"""How tiny specs are written."""

from __future__ import annotations

BASE = """
schema_version: 1
model:
  name: {name}
  d_model: 64
  vocab_size: 99
  max_seq_len: 64
  n_heads: 4
  intermediate_size: 96
  dtype: float32
{model}
embedding:
{embedding}
layer_templates:
{templates}
layer_schedule:
{schedule}
{rest}
"""

PLAIN = "  block:\n    mixer: {type: attention}\n    ffn: {type: gated_mlp}\n"


def spec(
    name: str,
    templates: str = PLAIN,
    schedule: str = "  - {template: block, repeat: 2}",
    *,
    model: str = "",
    embedding: str = "  positional: rope",
    rest: str = "",
) -> str:
    """The text of a tiny spec."""
    return BASE.format(name=name, templates=templates, schedule=schedule, model=model, embedding=embedding, rest=rest)


def block(
    mixer: str = "", ffn: str = "type: gated_mlp", norm: str = "", residual: str = "", name: str = "block"
) -> str:
    """One template; `mixer` is the options of attention, or all of another kind from its `type:` on."""
    whole = mixer if mixer.startswith("type:") else f"type: attention, attention: {{{mixer}}}"
    lines = [f"  {name}:", f"    mixer: {{{whole}}}", f"    ffn: {{{ffn}}}"]
    if norm:
        lines.append(f"    norm: {{{norm}}}")
    if residual:
        lines.append(f"    residual: {{{residual}}}")
    return "\n".join(lines) + "\n"
