"""Tiny specs of the recurrent block of Griffin, alone and beside other mixers."""

from tests.variants.building import block, spec
from tests.variants.core import DEEPSEEK_MOE

GRIFFIN = "type: rg_lru"

VARIANTS: dict[str, str] = {
    "griffin": spec(
        "griffin",
        block(GRIFFIN, name="recurrent")
        + block(
            f"{GRIFFIN}, rg_lru: {{width: 72, n_blocks: 3, d_conv: 2, bias: false, activation: silu}}",
            DEEPSEEK_MOE,
            residual="type: parallel",
            name="other",
        )
        + block("window: 5, n_kv_heads: 1, rope: {partial: 0.5}", name="near"),
        "  - {pattern: [recurrent, near, other, recurrent]}",
    ),
    "hawk": spec(
        "hawk",
        block(GRIFFIN, norm="position: sandwich", name="recurrent"),
        "  - {integrator: {type: ode_euler, steps: 2, body: recurrent}}\n  - {template: recurrent}",
        embedding="  positional: none",
    ),
    "griffin_in_branches": spec(
        "side_by_side",
        block(
            f"type: branched, branched: {{branches: {{near: {{type: attention, attention: {{window: 5}}}}, "
            f"far: {{{GRIFFIN}, rg_lru: {{n_blocks: 1}}}}}}}}",
            name="both",
        )
        + block("type: lightning, lightning: {chunk_size: 8}", name="linear"),
        "  - {pattern: [both, linear]}\n  - {template: both}",
        embedding="  positional: alibi",
    ),
}
"""Specs by name."""
