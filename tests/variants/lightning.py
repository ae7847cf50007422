"""Tiny specs of lightning attention, alone and beside other mixers."""

from tests.variants.building import block, spec
from tests.variants.core import DEEPSEEK_MOE

LIGHTNING = "type: lightning, lightning: {chunk_size: 8"

VARIANTS: dict[str, str] = {
    "lightning": spec(
        "minimax_like",
        block(f"{LIGHTNING}}}", name="fading", residual="skip: normed, skip_scaling: 1.5")
        + block(
            f"{LIGHTNING}, decay: none, gate: false, activation: sigmoid, n_heads: 2, norm_eps: 0.01}}",
            residual="type: parallel",
            name="keeping",
        )
        + block("window: 5, n_kv_heads: 2", DEEPSEEK_MOE, name="near"),
        "  - {pattern: [fading, near, keeping, fading]}",
    ),
    "lightning_looped": spec(
        "looped_lightning",
        block(f"{LIGHTNING}, decay: by_head, head_dim: 12}}", norm="position: sandwich", name="fading"),
        "  - {integrator: {type: ode_euler, steps: 2, body: fading}}\n  - {template: fading}",
        embedding="  positional: learned",
    ),
}
"""Specs by name."""
