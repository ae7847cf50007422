"""Families after Qwen3-Next: Qwen3.5, dense and with experts, as text models."""

from __future__ import annotations

from typing import Any

from tests.families.delta import (
    ATTENTION,
    DELTA,
    DELTA_HEADS,
    GATED_ATTENTION,
    GATED_EXPERTS,
    MOE,
    QWEN3_NEXT_SIZES,
    ZERO_CENTRED,
    attending,
    delta,
)
from tests.families.dense import UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import default_rope, document

TWO_LAYERS: dict[str, Any] = {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]}
DENSE_SIZES: dict[str, Any] = {
    **{name: value for name, value in QWEN3_NEXT_SIZES.items() if "expert" not in name and "moe" not in name},
    **TWO_LAYERS,
    "rms_norm_eps": 0.1,
    # With one position a token the three parts of a rope for images turn alike
    "rope_parameters": {**default_rope(500000.0), "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]},
}
COMMON = (
    Feature("memories", {"layer_templates.delta.mixer": {"type": "attention"}}, shows="weights"),
    Feature("heads of memories", {f"{DELTA}.n_heads": 4}, shows="weights"),
    Feature("heads of values", {f"{DELTA}.n_v_heads": GONE}, shows="weights"),
    Feature("width of their queries and keys", {f"{DELTA}.head_dim": 8}, shows="weights"),
    Feature("width of their values", {f"{DELTA}.v_head_dim": GONE}, shows="weights"),
    Feature("gate of the attention", {f"{ATTENTION}.output_gate": GONE}, shows="weights"),
    Feature("query and key norm centred at zero", {f"{ATTENTION}.qk_norm": "head"}),
    Feature("norms centred at zero", {"layer_templates.*.norm.unit_offset": False}),
    Feature("partial rotation", {"embedding.rope.partial": GONE}),
    Feature("rope theta", {"embedding.rope.theta": GONE}),
    Feature("width of a head", {"model.head_dim": 32}, shows="weights"),
    Feature("eps", {"model.norm_eps": GONE}),
)
ROPE = {"rope": {"theta": 500000.0, "partial": 0.5}}

QWEN3_5_TEXT = Family(
    name="qwen3_5_text",
    config="Qwen3_5TextConfig",
    model="Qwen3_5ForCausalLM",
    cases={
        "base": Case(
            document(
                "qwen3_5_tiny",
                {
                    "delta": delta(DELTA_HEADS, norm=ZERO_CENTRED),
                    "attending": attending(GATED_ATTENTION, norm=ZERO_CENTRED),
                },
                [{"pattern": ["delta", "attending"]}],
                model={"head_dim": 16, "norm_eps": 0.1},
                embedding=ROPE,
            ),
            {**DENSE_SIZES, "tie_word_embeddings": True},
        ),
    },
    features=(*COMMON, Feature("tied head", {"head": UNTIED}, shows="gradients")),
)

QWEN3_5_MOE_TEXT = Family(
    name="qwen3_5_moe_text",
    config="Qwen3_5MoeTextConfig",
    model="Qwen3_5MoeForCausalLM",
    losses={"output_router_logits": True},
    cases={
        "base": Case(
            document(
                "qwen3_5_moe_tiny",
                {
                    "delta": delta(DELTA_HEADS, GATED_EXPERTS, ZERO_CENTRED),
                    "attending": attending(GATED_ATTENTION, GATED_EXPERTS, ZERO_CENTRED),
                },
                [{"pattern": ["delta", "attending"]}],
                model={"head_dim": 16, "norm_eps": 0.1},
                embedding=ROPE,
                head=UNTIED,
            ),
            {
                **{name: value for name, value in QWEN3_NEXT_SIZES.items() if name != "intermediate_size"},
                **DENSE_SIZES,
                "router_aux_loss_coef": 0.02,
            },
        ),
    },
    renames=(Rename(r"(.*\.mlp)\.shared_expert\.(.*)", (r"\1.shared_experts.\2",)),),
    features=(
        *COMMON,
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0, f"{MOE}.shared_size": GONE, f"{MOE}.shared_gate": GONE}),
        Feature("gate of the shared expert", {f"{MOE}.shared_gate": False}),
        Feature("width of the shared expert", {f"{MOE}.shared_size": 32}, shows="weights"),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("weights in the model's dtype", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("untied head", {"head": {}}, shows="gradients"),
    ),
)
