"""Families by what their routers and experts are: Qwen2-MoE, Granite MoE, ERNIE 4.5 MoE, Kolibri, Aria, Command A."""

from __future__ import annotations

from typing import Any

import torch

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import LIBRARY, block, document

MOE = f"{FFN}.moe"


def routed(**keys: Any) -> dict[str, Any]:
    """A feed-forward of four experts, two a token."""
    return {"type": "moe", "moe": {"experts": 4, "top_k": 2, "load_balance_coef": 0.0, **keys}}


def transposed(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Matrices (experts, in, out) as (experts, out, in)."""
    return (tensor.mT,)


def halves(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """A gate and what it multiplies, stored one after the other."""
    return tensor.chunk(2)


QWEN2_MOE_SIZES = {
    **LIBRARY,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
GATED_SHARED = {"weights_dtype": "model", "shared_experts": 1, "shared_size": 48, "shared_gate": True}

QWEN2_MOE = Family(
    name="qwen2_moe",
    config="Qwen2MoeConfig",
    model="Qwen2MoeForCausalLM",
    losses={"output_router_logits": True},
    renames=(Rename(r"(.*\.mlp)\.shared_expert\.(.*)", (r"\1.shared_experts.\2",)),),
    cases={
        "base": Case(
            document(
                "qwen2_moe_tiny",
                {
                    "dense": block({"qkv_bias": True}),
                    "sparse": block(
                        {"qkv_bias": True},
                        routed(**GATED_SHARED, expert_size=32, normalize=False, load_balance_coef=0.02),
                    ),
                },
                [{"pattern": ["dense", "sparse"], "repeat": 2}],
                head=UNTIED,
            ),
            {**QWEN2_MOE_SIZES, "decoder_sparse_step": 2, "router_aux_loss_coef": 0.02},
        ),
        "normalized": Case(
            document(
                "qwen2_moe_normalized",
                {
                    "block": block(
                        {}, {**routed(**GATED_SHARED, load_balance_coef=0.1, expert_size=24), "activation": "geglu"}
                    )
                },
                model={"norm_eps": 0.01, "n_kv_heads": 1},
            ),
            {
                **QWEN2_MOE_SIZES,
                "num_key_value_heads": 1,
                "moe_intermediate_size": 24,
                "hidden_act": "gelu",
                "qkv_bias": False,
                "norm_topk_prob": True,
                "router_aux_loss_coef": 0.1,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0, f"{MOE}.shared_size": GONE, f"{MOE}.shared_gate": GONE}),
        Feature("gate of the shared expert", {"layer_templates.sparse.ffn.moe.shared_gate": False}),
        Feature("width of the shared expert", {"layer_templates.sparse.ffn.moe.shared_size": 32}, shows="weights"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("weights left undivided", {"layer_templates.sparse.ffn.moe.normalize": True}),
        Feature("load-balancing loss", {"layer_templates.sparse.ffn.moe.load_balance_coef": 0.0}, shows="loss"),
        Feature(
            "weights in the model's dtype", {"layer_templates.sparse.ffn.moe.weights_dtype": GONE}, shows="bfloat16"
        ),
        Feature("activation", {f"{FFN}.activation": GONE}, case="normalized"),
        Feature("eps", {"model.norm_eps": GONE}, case="normalized"),
    ),
)

CHOSEN = {"score_over": "chosen", "weights_dtype": "model"}
GRANITE_SIZES = {**LIBRARY, "num_local_experts": 4, "num_experts_per_tok": 2}
GRANITE_MULTIPLIERS = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.7,
    "logits_scaling": 4.0,
}
GRANITE_RENAMES = (
    Rename(r"(.*)\.block_sparse_moe\.router\.weight", (r"\1.mlp.gate.weight",)),
    Rename(r"(.*)\.block_sparse_moe\.experts\.(.*)", (r"\1.mlp.experts.\2",)),
)

GRANITEMOE = Family(
    name="granitemoe",
    config="GraniteMoeConfig",
    model="GraniteMoeForCausalLM",
    losses={"output_router_logits": True},
    renames=GRANITE_RENAMES,
    cases={
        "base": Case(
            document(
                "granitemoe_tiny",
                {
                    "block": block(
                        {"scale": 0.2},
                        routed(**CHOSEN, load_balance_coef=0.02),
                        residual={"scaling": 0.7},
                    )
                },
                embedding={"scale": 3.0},
                head={"tie_weights": False, "logit_divisor": 4.0},
            ),
            {**GRANITE_SIZES, **GRANITE_MULTIPLIERS, "router_aux_loss_coef": 0.02},
        ),
        "biased": Case(
            document(
                "granitemoe_biased",
                {
                    "block": block(
                        {"scale": 1.0, "qkv_bias": True, "out_bias": True},
                        routed(**CHOSEN, experts=6, top_k=3),
                    )
                },
                model={"norm_eps": 0.01},
            ),
            {
                **LIBRARY,
                "num_local_experts": 6,
                "num_experts_per_tok": 3,
                "attention_bias": True,
                "router_aux_loss_coef": 0.0,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("experts chosen by logits", {f"{MOE}.score_over": GONE, f"{MOE}.normalize": False}),
        Feature("weights in the model's dtype", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("scale of the scores", {f"{ATTENTION}.scale": GONE}),
        Feature("factor on sublayers", {"layer_templates.*.residual.scaling": GONE}),
        Feature("factor on the embedding", {"embedding.scale": GONE}),
        Feature("divisor of the logits", {"head.logit_divisor": GONE}),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)

GRANITEMOESHARED = Family(
    name="granitemoeshared",
    config="GraniteMoeSharedConfig",
    model="GraniteMoeSharedForCausalLM",
    losses={"output_router_logits": True},
    renames=(
        *GRANITE_RENAMES,
        Rename(
            r"(.*)\.shared_mlp\.input_linear\.weight",
            (r"\1.mlp.shared_experts.gate_proj.weight", r"\1.mlp.shared_experts.up_proj.weight"),
            halves,
        ),
        Rename(r"(.*)\.shared_mlp\.output_linear\.weight", (r"\1.mlp.shared_experts.down_proj.weight",)),
    ),
    cases={
        "base": Case(
            document(
                "granitemoeshared_tiny",
                {
                    "block": block(
                        {"scale": 0.2},
                        routed(**CHOSEN, shared_experts=1, shared_size=48, load_balance_coef=0.02),
                        residual={"scaling": 0.7},
                    )
                },
                embedding={"scale": 3.0},
                head={"tie_weights": False, "logit_divisor": 4.0},
            ),
            {**GRANITE_SIZES, **GRANITE_MULTIPLIERS, "router_aux_loss_coef": 0.02, "shared_intermediate_size": 48},
        ),
        "gelu": Case(
            document(
                "granitemoeshared_gelu",
                {
                    "block": block(
                        {"scale": 1.0},
                        {**routed(**CHOSEN, top_k=3, shared_experts=1), "activation": "geglu"},
                    )
                },
                model={"norm_eps": 0.01, "n_kv_heads": 4},
            ),
            {
                **GRANITE_SIZES,
                "num_experts_per_tok": 3,
                "num_key_value_heads": 4,
                "shared_intermediate_size": 96,
                "hidden_act": "gelu",
                "router_aux_loss_coef": 0.0,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("weights in the model's dtype", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("scale of the scores", {f"{ATTENTION}.scale": GONE}),
        Feature("factor on the embedding", {"embedding.scale": GONE}),
        Feature("divisor of the logits", {"head.logit_divisor": GONE}),
        Feature("experts chosen by logits", {f"{MOE}.score_over": GONE, f"{MOE}.normalize": False}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0, f"{MOE}.shared_size": GONE}),
        Feature("factor on sublayers", {"layer_templates.*.residual.scaling": GONE}),
        Feature("activation", {f"{FFN}.activation": GONE}, case="gelu"),
        Feature("eps", {"model.norm_eps": GONE}, case="gelu"),
    ),
)

FLOORED = {
    "router_float32": True,
    "router_dtype": "float32",
    "weights_dtype": "model",
    "bias_correction": {"enabled": True},
    "shared_experts": 1,
    "expert_size": 32,
    "load_balance_coef": 0.02,
}
ERNIE_SIZES = {
    **LIBRARY,
    "moe_intermediate_size": 32,
    "moe_k": 2,
    "moe_num_experts": 4,
    "moe_num_shared_experts": 1,
    "moe_layer_start_index": 1,
    "moe_layer_end_index": 3,
    "moe_layer_interval": 1,
    "router_aux_loss_coef": 0.02,
}
ERNIE_ROPE = {"interleaved": True, "precision": "float32"}

ERNIE4_5_MOE = Family(
    name="ernie4_5_moe",
    config="Ernie4_5_MoeConfig",
    model="Ernie4_5_MoeForCausalLM",
    losses={"output_router_logits": True},
    renames=(
        Rename(
            r"(.*\.gate)\.moe_statics\.e_score_correction_bias",
            (r"\1.e_score_correction_bias",),
            lambda tensor: (tensor[0],),
        ),
    ),
    cases={
        "base": Case(
            document(
                "ernie4_5_moe_tiny",
                {
                    "dense": block({"rope": ERNIE_ROPE}),
                    "sparse": block({"rope": ERNIE_ROPE}, routed(**FLOORED, normalize={"floor": 1.0e-12})),
                },
                [{"template": "dense"}, {"template": "sparse", "repeat": 3}],
                model={"norm_eps": 1.0e-5},
                embedding={"rope_theta": 500000.0},
            ),
            ERNIE_SIZES,
        ),
        "high floor": Case(
            document(
                "ernie4_5_moe_floor",
                {
                    "block": block(
                        {"rope": ERNIE_ROPE},
                        routed(**{**FLOORED, "shared_experts": 2}, normalize={"floor": 0.9}, top_k=1),
                    )
                },
                model={"norm_eps": 0.01},
                embedding={"rope_theta": 10000.0},
                head=UNTIED,
            ),
            {
                **ERNIE_SIZES,
                "moe_k": 1,
                "moe_layer_start_index": 0,
                "moe_num_shared_experts": 2,
                "moe_norm_min": 0.9,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": False,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    },
    features=(
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("weights in the model's dtype", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
        Feature("rope theta", {"embedding.rope_theta": 100.0}),
        Feature("rope in float32", {f"{ATTENTION}.rope.precision": GONE}, shows="bfloat16"),
        Feature("correction bias", {"layer_templates.sparse.ffn.moe.bias_correction": GONE}),
        Feature("weights divided", {"layer_templates.sparse.ffn.moe.normalize": False}),
        Feature("shared expert", {"layer_templates.sparse.ffn.moe.shared_experts": 0}),
        Feature(
            "router in float32",
            {
                "layer_templates.sparse.ffn.moe.router_float32": GONE,
                "layer_templates.sparse.ffn.moe.router_dtype": GONE,
            },
            shows="bfloat16",
        ),
        Feature("router kept in float32", {"layer_templates.sparse.ffn.moe.router_dtype": GONE}, shows="bfloat16"),
        Feature("floor of the divisor", {f"{MOE}.normalize": True}, case="high floor"),
        Feature("interleaved rope", {f"{ATTENTION}.rope.interleaved": False}),
        Feature("eps", {"model.norm_eps": GONE}, case="high floor"),
    ),
)

SANDWICH = {"position": "sandwich"}
KOLIBRI_ROUTER: dict[str, Any] = {
    "router": "sigmoid",
    "score_over": "chosen",
    "router_float32": True,
    "bias_correction": {"enabled": True},
    "shared_experts": 1,
    "shared_size": 48,
    "expert_size": 32,
}
KOLIBRI_SIZES = {
    **{name: value for name, value in LIBRARY.items() if name != "intermediate_size"},
    "head_dim": 16,
    "moe_intermediate_size": 32,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "shared_expert_intermediate_size": 48,
}

KOLIBRI1 = Family(
    name="kolibri1",
    config="Kolibri1Config",
    model="Kolibri1ForCausalLM",
    renames=(
        Rename(r"(.*)\.post_attention_layernorm\.weight", (r"\1.pre_feedforward_layernorm.weight",)),
        Rename(r"(.*)\.post_self_attn_layernorm\.weight", (r"\1.post_attention_layernorm.weight",)),
        Rename(r"(.*)\.post_mlp_layernorm\.weight", (r"\1.post_feedforward_layernorm.weight",)),
    ),
    cases={
        "base": Case(
            document(
                "kolibri1_tiny",
                {
                    "local": block({"qk_norm": "head", "window": 8}, routed(**KOLIBRI_ROUTER), SANDWICH),
                    "global": block({"qk_norm": "head", "rope": "none"}, routed(**KOLIBRI_ROUTER), SANDWICH),
                },
                [{"pattern": ["local", "global"], "repeat": 2}],
                model={"head_dim": 16},
                head=UNTIED,
            ),
            {
                **KOLIBRI_SIZES,
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "norm_topk_prob": True,
            },
        ),
        "undivided": Case(
            document(
                "kolibri1_undivided",
                {
                    "block": block(
                        {"qk_norm": "head", "window": 6},
                        routed(**{**KOLIBRI_ROUTER, "experts": 6, "top_k": 3}, normalize=False),
                        SANDWICH,
                    )
                },
                model={"head_dim": 24, "norm_eps": 0.01, "n_kv_heads": 1},
            ),
            {
                **KOLIBRI_SIZES,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "num_local_experts": 6,
                "num_experts_per_tok": 3,
                "sliding_window": 6,
                "layer_types": ["sliding_attention"] * 4,
                "norm_topk_prob": False,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("bias on the logits", {f"{MOE}.score_over": "all"}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("sigmoid scores", {f"{MOE}.router": GONE}),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0, f"{MOE}.shared_size": GONE}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("norms on both sides", {"layer_templates.*.norm.position": GONE}),
        Feature("no rope without a window", {"layer_templates.global.mixer.attention.rope": GONE}),
        Feature("window", {"layer_templates.local.mixer.attention.window": GONE}),
        Feature("weights left undivided", {f"{MOE}.normalize": True}, case="undivided"),
        Feature("eps", {"model.norm_eps": GONE}, case="undivided"),
    ),
)

ARIA_TEXT = Family(
    name="aria_text",
    config="AriaTextConfig",
    model="AriaTextForCausalLM",
    renames=(
        Rename(r"(.*\.mlp)\.router\.weight", (r"\1.gate.weight",)),
        Rename(r"(.*\.mlp\.experts\.(?:gate_up|down)_proj)", (r"\1",), transposed),
    ),
    cases={
        "base": Case(
            document(
                "aria_text_tiny",
                {"block": block({}, routed(score_over="chosen", scores_dtype="model", shared_experts=1))},
                model={"head_dim": 16},
                head=UNTIED,
            ),
            {**LIBRARY, "head_dim": 16, "moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
        ),
        "biased": Case(
            document(
                "aria_text_biased",
                {
                    "block": block(
                        {"qkv_bias": True, "out_bias": True},
                        routed(
                            score_over="chosen",
                            scores_dtype="model",
                            experts=6,
                            top_k=3,
                            shared_experts=2,
                            shared_bias=True,
                        ),
                    )
                },
                model={"norm_eps": 0.01, "head_dim": 24},
            ),
            {
                **LIBRARY,
                "head_dim": 24,
                "moe_num_experts": 6,
                "moe_topk": 3,
                "moe_num_shared_experts": 2,
                "attention_bias": True,
                "mlp_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("experts chosen by logits", {f"{MOE}.score_over": GONE, f"{MOE}.normalize": False}),
        Feature("softmax in the model's dtype", {f"{MOE}.scores_dtype": GONE}, shows="bfloat16"),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("biases of the shared experts", {f"{MOE}.shared_bias": GONE}, case="biased"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)
