"""Families whose attention heads are chosen by a router: JetMoe."""

from __future__ import annotations

from typing import Any

import torch

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import TWO, block, default_rope, document

LAYER = r"model\.layers\.(\d+)"
MIXTURE = f"{ATTENTION}.mixture"
MOE = f"{FFN}.moe"

SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "kv_channels": 16,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "aux_loss_coef": 0.02,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def halves(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Keys' and values' rows of one projection."""
    return tensor.chunk(2, dim=0)


def jet_layer(experts: int, top_k: int, **ffn: Any) -> dict[str, Any]:
    """One layer: both kinds of experts are as many, and count in one loss."""
    numbers = {"experts": experts, "top_k": top_k, "load_balance_coef": 0.02}
    feed_forward = {**numbers, "score_over": "chosen", "weights_dtype": "model", "output_bias": True}
    return block(
        {"mixture": {**numbers, "recorded": 2}, "out_bias": True},
        {"type": "moe", "moe": feed_forward, **ffn},
    )


RENAMES = (
    Rename(rf"{LAYER}\.self_attention\.experts\.bias", (r"model.layers.\1.self_attn.o_bias",)),
    Rename(rf"{LAYER}\.self_attention\.experts\.input_linear\.weight", (r"model.layers.\1.self_attn.q_experts",)),
    Rename(rf"{LAYER}\.self_attention\.experts\.output_linear\.weight", (r"model.layers.\1.self_attn.o_experts",)),
    Rename(rf"{LAYER}\.self_attention\.experts\.router\.layer\.weight", (r"model.layers.\1.self_attn.router.weight",)),
    Rename(
        rf"{LAYER}\.self_attention\.kv_proj\.weight",
        (r"model.layers.\1.self_attn.k_proj.weight", r"model.layers.\1.self_attn.v_proj.weight"),
        halves,
    ),
    Rename(rf"{LAYER}\.mlp\.bias", (r"model.layers.\1.mlp.output_bias",)),
    Rename(rf"{LAYER}\.mlp\.input_linear\.weight", (r"model.layers.\1.mlp.experts.gate_up_proj",)),
    Rename(rf"{LAYER}\.mlp\.output_linear\.weight", (r"model.layers.\1.mlp.experts.down_proj",)),
    Rename(rf"{LAYER}\.mlp\.router\.layer\.weight", (r"model.layers.\1.mlp.gate.weight",)),
)

JETMOE = Family(
    name="jetmoe",
    config="JetMoeConfig",
    model="JetMoeForCausalLM",
    losses={"output_router_logits": True},
    renames=RENAMES,
    cases={
        "base": Case(
            document(
                "jetmoe_tiny", {"block": jet_layer(4, 2)}, TWO, model={"head_dim": 16}, head={"norm": {"eps": 0.01}}
            ),
            {**SIZES, "rms_norm_eps": 0.01},
        ),
        "one key/value head": Case(
            document(
                "jetmoe_one",
                {"block": jet_layer(5, 2, activation="geglu")},
                TWO,
                model={"n_heads": 2, "n_kv_heads": 1, "head_dim": 24},
                embedding={"rope_theta": 500.0},
                head=UNTIED,
            ),
            {
                **SIZES,
                "num_local_experts": 5,
                "activation_function": "gelu",
                "tie_word_embeddings": False,
                "rope_parameters": default_rope(500.0),
                "num_key_value_heads": 1,
                "kv_channels": 24,
            },
        ),
    },
    features=(
        Feature("heads of chosen experts", {MIXTURE: GONE}, shows="weights"),
        Feature("bias on the experts' sum", {f"{ATTENTION}.out_bias": False}),
        Feature("routers of attention balanced too", {f"{MIXTURE}.recorded": 1}, shows="loss"),
        Feature(
            "load-balancing loss", {f"{MIXTURE}.load_balance_coef": 0.0, f"{MOE}.load_balance_coef": 0.0}, shows="loss"
        ),
        Feature("experts a token attends with", {f"{MIXTURE}.top_k": 1, "model.n_heads": 2}),
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("scores of the chosen", {f"{MOE}.score_over": GONE, f"{MOE}.normalize": False}),
        Feature("weights in the model's dtype", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
        Feature("bias on all experts' outputs", {f"{MOE}.output_bias": False}),
        Feature("eps of the last norm", {"head.norm": GONE}),
        Feature("activation", {f"{FFN}.activation": GONE}, case="one key/value head"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="one key/value head"),
        Feature("untied head", {"head": {}}, case="one key/value head", shows="gradients"),
    ),
)

JETMOE_MANY = Family(
    name="jetmoe_many",
    config="JetMoeConfig",
    model="JetMoeForCausalLM",
    losses={"output_router_logits": True},
    renames=RENAMES,
    rounding="the library adds up the outputs of a token's experts before it rounds, not one after the other",
    cases={
        # Where all are chosen, no rounding moves a choice
        "all of three": Case(
            document(
                "jetmoe_three",
                {"block": jet_layer(3, 3, activation="geglu")},
                TWO,
                model={"n_heads": 9, "n_kv_heads": 3, "head_dim": 24},
                embedding={"rope_theta": 500.0},
                head=UNTIED,
            ),
            {
                **SIZES,
                "num_local_experts": 3,
                "num_experts_per_tok": 3,
                "num_key_value_heads": 3,
                "kv_channels": 24,
                "activation_function": "gelu",
                "tie_word_embeddings": False,
                "rope_parameters": default_rope(500.0),
            },
        ),
    },
    features=(
        Feature("experts a token attends with", {f"{MIXTURE}.top_k": 1, "model.n_heads": 3}, case="all of three"),
    ),
)
