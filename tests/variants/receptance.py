"""Tiny specs of RWKV: its mixer, and its feed-forward network, which keeps a token, beside those of others."""

from tests.variants.building import block, spec
from tests.variants.convolving import HYENA
from tests.variants.exponential import MLSTM
from tests.variants.memories import LEARNS, NEURAL, with_memory
from tests.variants.recurrent import MAMBA2

RWKV = "type: rwkv, rwkv: {chunk_size: 8"
MIX = "type: channel_mix"

VARIANTS: dict[str, str] = {
    "rwkv": spec(
        "receptance",
        block(f"{RWKV}}}", f"{MIX}, intermediate_size: 80", name="plain")
        + block(f"{RWKV}, inner_size: 40}}", residual="type: parallel", name="wide"),
        "  - {pattern: [plain, wide], repeat: 2}",
        embedding="  positional: none\n  norm: {type: layernorm}",
    ),
    "rwkv_beside_all": spec(
        "rwkv of all",
        with_memory(block(f"{RWKV}}}", MIX, residual="type: parallel", name="weighted"), f"{NEURAL}, {LEARNS}")
        + block(f"{MLSTM}}}", MIX, "position: sandwich", name="exponential")
        + block("window: 5, n_kv_heads: 2", MIX, name="near")
        + block("n_heads: 2, rope: none", f"type: parallel, branches: {{one: {{{MIX}}}, two: {{{MIX}}}}}", name="far")
        + block(
            f"type: branched, branched: {{branches: {{state: {{{RWKV}}}}}, attention: {{type: attention}}, "
            f"other: {{{MAMBA2}}}}}}}}}",
            MIX,
            name="both",
        )
        + block(f"{HYENA}}}", MIX, name="convolved")
        + block("type: none", MIX, name="alone"),
        "  - {pattern: [weighted, near, both, alone, far, exponential, convolved]}",
    ),
    "rwkv_looped": spec(
        "looped_receptance",
        block(f"{RWKV}}}", MIX, name="weighted"),
        "  - {integrator: {type: ode_euler, steps: 2, body: weighted}}\n  - {template: weighted}",
        embedding="  positional: learned",
    ),
}
"""Specs by name."""
