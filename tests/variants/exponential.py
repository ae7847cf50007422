"""Tiny specs of mixers with exponential gates."""

from tests.variants.building import block, spec
from tests.variants.convolving import HYENA
from tests.variants.core import DEEPSEEK_MOE
from tests.variants.recurrent import LATENT, MAMBA2, RETNET

MLSTM = "type: mlstm, mlstm: {chunk_size: 8"

VARIANTS: dict[str, str] = {
    "mlstm": spec(
        "matrix_memory",
        block(f"{MLSTM}}}", name="plain")
        + block(
            f"{MLSTM}, bias: true, gate_softcap: null, n_heads: 2, qk_dim_factor: 1, v_dim_factor: 0.5, eps: 1.0e-3}}",
            residual="type: parallel",
            name="other",
        ),
        "  - {pattern: [plain, other]}",
        embedding="  positional: none",
    ),
    "mlstm_beside_all": spec(
        "xlstm of all kinds",
        block(f"{MLSTM}, norm_eps: 0.01}}", norm="position: sandwich", name="exponential")
        + block(f"{MAMBA2}}}", name="recurrent")
        + block(LATENT, DEEPSEEK_MOE, name="latent")
        + block(
            f"type: branched, branched: {{branches: {{near: {{type: attention, attention: {{window: 5}}}}, "
            f"far: {{{MLSTM}, gate_softcap: 5}}}}, whole: {{{HYENA}, depth: 1}}}}}}}}",
            name="both",
        )
        + block(f"{RETNET}}}", name="retained"),
        "  - {pattern: [exponential, recurrent, latent, both, retained]}\n  - {template: exponential}",
    ),
}
"""Specs by name."""
