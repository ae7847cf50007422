"""Tiny specs of mixers that learn by the delta rule, alone and beside attention of several kinds."""

from tests.variants.building import block, spec
from tests.variants.core import DEEPSEEK_MOE

DELTA = "type: gated_delta_net, gated_delta_net: {chunk_size: 8"
KDA = "type: kda, kda: {chunk_size: 8"
LATENT = "mla: {kv_rank: 16, nope_dim: 16, rope_dim: 8, v_dim: 12, rotate: false}"

VARIANTS: dict[str, str] = {
    "delta_networks": spec(
        "delta_networks",
        block(f"{DELTA}, n_heads: 2, n_v_heads: 4, head_dim: 8, v_head_dim: 12}}", name="shared")
        + block(
            f"{DELTA}, d_conv: 2, negative_eigenvalues: true, gate: sigmoid, decay_dtype: float32, norm_eps: 0.01}}",
            norm="position: sandwich",
            name="signed",
        )
        + block(f"{KDA}, head_dim: 8, v_head_dim: 12}}", ffn="type: none", name="alone")
        + block(
            f"{KDA}, d_conv: 3, rank: 5, n_heads: 2, head_dim: 12, negative_eigenvalues: true, gate: silu}}",
            residual="type: parallel",
            name="other",
        ),
        "  - {pattern: [shared, signed, alone, other]}",
        model="  norm_eps: 0.01",
        embedding="  positional: none",
    ),
    "delta_beside_all": spec(
        "qwen of kimi",
        block(f"{DELTA}, n_v_heads: 8}}", DEEPSEEK_MOE, name="delta")
        + block(f"{LATENT}, rope: none", DEEPSEEK_MOE, name="latent")
        + block("output_gate: {source: query}, n_kv_heads: 2, window: 5", name="gated")
        + block(
            f"type: branched, branched: {{branches: {{near: {{type: attention, attention: {{window: 5}}}}, "
            f"far: {{{KDA}}}}}}}}}",
            name="both",
        ),
        "  - {pattern: [delta, latent, both, gated]}\n  - {template: delta}",
        model="  norm_eps: 0.01",
    ),
    "delta_looped": spec(
        "looped_memories",
        block(f"{KDA}}}", name="kda") + block(f"{DELTA}}}", name="delta"),
        "  - {integrator: {type: ode_euler, steps: 2, body: delta}}\n  - {template: kda}",
        model="  norm_eps: 0.01",
        embedding="  positional: learned",
    ),
}
"""Specs by name."""
