"""Tiny specs of recurrent mixers, alone and beside attention of several kinds."""

from tests.variants.building import block, spec
from tests.variants.core import DEEPSEEK_MOE

MAMBA2 = "type: mamba, mamba: {d_state: 8, chunk_size: 8"
MAMBA1 = "type: mamba, mamba: {variant: mamba1"
LATENT = "mla: {kv_rank: 16, q_rank: 24, nope_dim: 16, rope_dim: 8, v_dim: 12}"

RETNET = "type: retnet, retnet: {chunk_size: 8"

VARIANTS: dict[str, str] = {
    "mamba2": spec(
        "state_space",
        block(f"{MAMBA2}, n_groups: 2, head_dim: 16}}", name="plain")
        + block(
            f"{MAMBA2}, d_conv: 2, expand: 1.5, norm: none, conv_bias: false, proj_bias: true, dt_limit: [0.01, 0.5]}}",
            norm="position: sandwich",
            name="other",
        ),
        "  - {pattern: [plain, other]}",
        embedding="  positional: none",
    ),
    "mamba2_beside_attention": spec(
        "hybrid_of_all",
        block(f"{MAMBA2}, n_groups: 2, norm: norm_first}}", residual="type: parallel", name="recurrent")
        + block("window: 5, n_kv_heads: 2, qk_norm: head", name="near")
        + block("window: 9, n_heads: 2, rope: none", name="far")
        + block(LATENT, DEEPSEEK_MOE, name="latent"),
        "  - {pattern: [recurrent, near, far, latent]}\n  - {template: recurrent}",
    ),
    "mamba1": spec(
        "selective_scan",
        block(f"{MAMBA1}, expand: 1.5, dt_rank: 3}}", name="plain")
        + block(
            f"{MAMBA1}, d_conv: 2, conv_bias: false, proj_bias: true, state_norm: rms, norm_eps: 0.01}}",
            norm="position: sandwich",
            name="normed",
        )
        + block(f"{MAMBA1}, state_norm: rms_unweighted}}", ffn="type: none", name="alone"),
        "  - {pattern: [plain, normed, alone]}",
        model="  residual_dtype: float32",
        embedding="  positional: none",
    ),
    "mamba1_beside_others": spec(
        "all_kinds_of_states",
        block(f"{MAMBA1}, d_state: 4, state_norm: rms}}", residual="type: parallel", name="selective")
        + block(f"{MAMBA2}, norm: none}}", name="recurrent")
        + block("window: 5, n_kv_heads: 2", DEEPSEEK_MOE, name="near")
        + block("n_heads: 2, rope: none", name="far"),
        "  - {pattern: [selective, near, recurrent, far]}\n  - {template: selective}",
    ),
    "mamba1_in_one_layer": spec(
        "one_layer",
        block(f"{MAMBA1}}}", ffn="type: none"),
        "  - {template: block}",
        embedding="  positional: none",
    ),
    "mamba2_with_alibi": spec(
        "hybrid_alibi",
        block(f"{MAMBA2}}}", name="recurrent") + block("window: 5", name="near") + block("", name="global"),
        "  - {pattern: [global, recurrent, near]}",
        embedding="  positional: alibi",
    ),
    "retention": spec(
        "retentive",
        block(f"{RETNET}}}", name="rotated")
        + block("type: retnet, retnet: {rope: false, chunkwise: false, value_factor: 1, n_heads: 2}", name="whole"),
        "  - {pattern: [rotated, whole], repeat: 2}",
    ),
    "retention_beside_all": spec(
        "rwkv of minimax",
        block(f"{RETNET}, head_dim: 12, norm_eps: 0.01}}", residual="type: parallel", name="retained")
        + block(f"{MAMBA2}}}", name="recurrent")
        + block(LATENT, DEEPSEEK_MOE, name="latent")
        + block("window: 5, n_kv_heads: 2", name="near"),
        "  - {pattern: [retained, near, latent, recurrent]}\n  - {template: retained}",
    ),
    "short_conv": spec(
        "convolved",
        block("type: short_conv", name="convolved")
        + block("type: short_conv, short_conv: {kernel: 5, bias: true}", residual="type: parallel", name="wide"),
        "  - {pattern: [convolved, wide]}",
        embedding="  positional: learned",
    ),
    "short_conv_beside_attention": spec(
        "liquid",
        block("type: short_conv", name="convolved")
        + block("qk_norm: head, n_kv_heads: 2", DEEPSEEK_MOE, name="attending")
        + block(f"{MAMBA2}}}", name="recurrent")
        + block(
            "type: branched, branched: {branches: {near: {type: short_conv}, far: {type: attention}}}", name="both"
        ),
        "  - {pattern: [convolved, attending, recurrent, both]}",
    ),
    "branched": spec(
        "branched_mixers",
        block(
            f"type: branched, branched: {{branches: {{near: {{type: attention, attention: {{window: 5}}}}, "
            f"far: {{{MAMBA2}}}}}}}}}",
            name="gated",
        )
        + block(
            f"type: branched, branched: {{branches: {{state: {{{MAMBA2}, n_groups: 2}}}}, "
            f"latent: {{type: attention, attention: {{{LATENT}}}}}}}, selector: {{type: sum}}}}",
            DEEPSEEK_MOE,
            "position: sandwich",
            name="added",
        )
        + block("window: 9, n_kv_heads: 2", residual="type: parallel", name="windowed"),
        "  - {pattern: [windowed, added, gated]}\n  - {template: added}",
    ),
    "branched_simply": spec(
        "falcon_like",
        block(
            f"type: branched, branched: {{branches: {{attention: {{type: attention, input_scale: 0.8}}, "
            f"ssm: {{{MAMBA2}, multipliers: {{gate: 0.7, b: 1.5}}}}, output_scale: 1.3}}}}, "
            "selector: {type: top_k, top_k: 2}}",
            residual="type: parallel",
            name="both",
        )
        + block(f"{RETNET}}}", name="retained"),
        "  - {template: both, repeat: 2}\n  - {template: retained}",
        embedding="  positional: alibi",
    ),
    "retention_learned_looped": spec(
        "looped_retention",
        # The norm over heads makes much of rounding where retention gives little, and four slopes of it more
        block(f"{RETNET}, norm_eps: 0.01}}", name="retained"),
        "  - {integrator: {type: ode_rk4, steps: 1, body: retained}}\n  - {template: retained}",
        embedding="  positional: learned",
    ),
}
"""Specs by name."""
