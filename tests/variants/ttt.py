"""Tiny specs of layers that learn within a sequence, alone and beside others."""

from tests.variants.building import block, spec
from tests.variants.core import DEEPSEEK_MOE

TTT = "type: ttt_layer, ttt: {mini_batch_size: 8"
ADAMW = "inner_optimizer: adamw, inner_eps: 0.01"

VARIANTS: dict[str, str] = {
    "ttt": spec(
        "learns_at_test_time",
        block(f"{TTT}, inner_model: {{type: linear}}, inner_lr: 0.1}}", name="linear")
        + block(
            f"{TTT}, inner_model: {{hidden: 24}}, inner_steps_per_token: 2}}", name="mlp", norm="position: sandwich"
        ),
        "  - {pattern: [linear, mlp]}",
        embedding="  positional: none",
    ),
    "ttt_adamw_beside_all": spec(
        "adapts",
        block(
            f"{TTT}, inner_model: {{type: linear}}, {ADAMW}, inner_steps_per_token: 2}}",
            name="linear",
        )
        + block(
            "type: ttt_layer, ttt: {mini_batch_size: 4, inner_model: {hidden: 8}, inner_optimizer: adamw, n_heads: 2, "
            "head_dim: 8, inner_betas: [0.8, 0.95], inner_eps: 0.001, inner_weight_decay: 0.1, norm_eps: 0.01}",
            residual="type: parallel",
            name="mlp",
        )
        + block("type: mamba, mamba: {d_state: 8, chunk_size: 8}", name="recurrent")
        + block("window: 5, n_kv_heads: 2", DEEPSEEK_MOE, name="near"),
        "  - {pattern: [linear, near, mlp, recurrent]}\n  - {template: mlp}",
    ),
}
"""Specs by name."""
