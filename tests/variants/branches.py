"""Tiny specs of layers with several mixers of one kind, which have several slots in the cache."""

from tests.variants.building import block, spec
from tests.variants.core import DEEPSEEK_MOE

MAMBA2 = "{type: mamba, mamba: {d_state: 8, chunk_size: 8}}"
MAMBA1 = "{type: mamba, mamba: {variant: mamba1, d_state: 4}}"
RETNET = "{type: retnet, retnet: {chunk_size: 8, n_heads: 2}}"
TTT = "{type: ttt_layer, ttt: {mini_batch_size: 8, inner_model: {type: linear}}}"
LATENT = "mla: {kv_rank: 16, q_rank: 24, nope_dim: 16, rope_dim: 8, v_dim: 12}"


def branched(selector: str = "type: learned_gate", **branches: str) -> str:
    """A mixer of several branches."""
    inner = ", ".join(f"{name}: {mixer}" for name, mixer in branches.items())
    return f"type: branched, branched: {{branches: {{{inner}}}, selector: {{{selector}}}}}"


def attention(options: str = "") -> str:
    return f"{{type: attention, attention: {{{options}}}}}"


VARIANTS: dict[str, str] = {
    "two_attentions": spec(
        "two_attentions",
        block(branched("type: top_k, top_k: 2", one=attention(), two=attention("n_kv_heads: 2"), three=attention())),
    ),
    "windows_side_by_side": spec(
        "windows_side_by_side",
        block(
            branched(
                near=attention("window: 3, n_kv_heads: 2"),
                far=attention("window: 7, rope: {theta: 500, partial: 0.5}"),
                normed=attention("qk_norm: {eps: 0.01}"),
                latent=attention(LATENT),
            ),
            DEEPSEEK_MOE,
            "position: sandwich",
            name="wide",
        )
        + block("n_heads: 2, rope: none", residual="type: parallel", name="plain"),
        "  - {pattern: [wide, plain]}\n  - {template: wide}",
    ),
    "recurrent_side_by_side": spec(
        "recurrent_side_by_side",
        block(branched("type: sum", one=MAMBA2, two=MAMBA1, three=RETNET), name="states")
        + block(TTT[1:-1], name="learning"),
        "  - {pattern: [states, learning]}",
    ),
    "mixers_of_all_kinds": spec(
        "mixers_of_all_kinds",
        block(
            branched(
                "type: top_k, top_k: 3",
                chunk=attention("window: 6, window_mode: chunked"),
                state=MAMBA2,
                whole=attention("rope: none"),
                kept=RETNET,
                learns=TTT,
                conv="{type: short_conv}",
            ),
            name="all",
        )
        + block("n_kv_heads: 2", residual="type: parallel", name="plain"),
        "  - {pattern: [plain, all]}\n  - {template: all}",
    ),
    "shared_side_by_side": spec(
        "shared_side_by_side",
        block(branched(one=attention(), two=attention("window: 5")), name="making")
        + block(branched(one=attention("kv: shared"), two=attention("window: 4, n_kv_heads: 2")), name="both")
        + block("kv: shared", name="taking")
        + block("n_kv_heads: 2", name="ahead"),
        "  - {pattern: [making, both, taking]}",
        embedding="  positional: alibi",
        rest="head: {type: causal_lm_mtp, mtp: {head_template: ahead}}",
    ),
}
"""Specs by name."""
