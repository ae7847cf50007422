"""Tiny specs of convolutions as long as the sequence."""

from tests.variants.building import block, spec
from tests.variants.core import DEEPSEEK_MOE
from tests.variants.memories import LEARNS, NEURAL, with_memory
from tests.variants.recurrent import LATENT, MAMBA2, RETNET

HYENA = "type: hyena, hyena: {filter_hidden: 8, filter_features: 3, filter_frequency: 1"
"""Every hidden layer of a filter multiplies rounding by its frequency: 14 to the third makes steps of 1e-7 visible."""

VARIANTS: dict[str, str] = {
    "hyena": spec(
        "hierarchy",
        block(f"{HYENA}}}", name="plain")
        + block(
            f"{HYENA}, depth: 3, filter_decay: 4, filter_layers: 1, d_conv: 5}}",
            residual="type: parallel",
            name="other",
        ),
        "  - {pattern: [plain, other]}",
        embedding="  positional: none",
    ),
    "hyena_beside_all": spec(
        "hierarchy of kinds",
        with_memory(
            block(f"{HYENA}, depth: 1, filter_decay: 0.5}}", norm="position: sandwich", name="convolved"),
            f"{NEURAL}, {LEARNS}",
        )
        + block(f"{MAMBA2}}}", name="recurrent")
        + block(LATENT, DEEPSEEK_MOE, name="latent")
        + block("window: 5, n_kv_heads: 2", name="near")
        + block(f"{RETNET}}}", name="retained"),
        "  - {pattern: [recurrent, convolved, latent, near, retained]}\n  - {template: convolved}",
    ),
    "hyena_looped": spec(
        "looped_hierarchy",
        block(f"{HYENA}}}", name="convolved")
        + block(
            f"type: branched, branched: {{branches: {{near: {{type: attention, attention: {{window: 5}}}}, "
            f"far: {{{MAMBA2}}}}}}}}}",
            name="both",
        ),
        "  - {integrator: {type: ode_rk4, steps: 1, body: convolved}}\n  - {template: both}",
        embedding="  positional: alibi",
    ),
}
"""Specs by name."""
