"""Families that learn by the delta rule: Qwen3-Next, OLMo Hybrid, Kimi Linear."""

from __future__ import annotations

from typing import Any

import torch

from tests.families.dense import UNTIED
from tests.families.experts import GATED_SHARED, routed
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.latent_routed import MLA
from tests.families.routed import EXPERTS
from tests.families.specs import BIASED, LIBRARY, default_rope, document

ORDER = "the library adds up what a chunk writes in another order"
DELTA = "layer_templates.delta.mixer.gated_delta_net"
ATTENTION = "layer_templates.attending.mixer.attention"
MOE = "layer_templates.*.ffn.moe"
FOURTH = ["linear_attention"] * 3 + ["full_attention"]


def delta(
    keys: dict[str, Any], ffn: Spec | None = None, norm: Spec | None = None, kind: str = "gated_delta_net"
) -> Spec:
    """A layer template whose memory is told what it lacks."""
    return {"mixer": {"type": kind, kind: keys}, "ffn": ffn or {"type": "gated_mlp"}, "norm": norm or {}}


def attending(attention: Spec, ffn: Spec | None = None, norm: Spec | None = None) -> Spec:
    """A layer template with attention."""
    return {
        "mixer": {"type": "attention", "attention": attention},
        "ffn": ffn or {"type": "gated_mlp"},
        "norm": norm or {},
    }


def by_part(widths: dict[str, int], heads: int) -> Any:
    """Rows that hold these parts of a head, head by head, as one tensor for each part."""

    def split(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = tensor.unflatten(0, (heads, -1)).split(list(widths.values()), dim=1)
        return tuple(part.flatten(0, 1) for part in parts)

    return split


def qwen3_next_renames(heads: int, shared: int, key_width: int, value_width: int) -> tuple[Rename, ...]:
    """`shared` heads of values belong to each of the heads of keys."""
    values = shared * value_width
    return (
        Rename(
            r"(.*\.linear_attn)\.in_proj_qkvz\.weight",
            (*(rf"\1.in_proj_qkv.weight#{part}" for part in range(3)), r"\1.in_proj_z.weight"),
            by_part({"q": key_width, "k": key_width, "v": values, "z": values}, heads),
        ),
        Rename(
            r"(.*\.linear_attn)\.in_proj_ba\.weight",
            (r"\1.in_proj_b.weight", r"\1.in_proj_a.weight"),
            by_part({"b": shared, "a": shared}, heads),
        ),
        Rename(r"(.*\.mlp)\.shared_expert\.(.*)", (r"\1.shared_experts.\2",)),
    )


QWEN3_NEXT_SIZES: dict[str, Any] = {
    **LIBRARY,
    "head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 12,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": FOURTH,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "rope_parameters": {**default_rope(1000000.0), "partial_rotary_factor": 0.25},
    "tie_word_embeddings": False,
}
ZERO_CENTRED = {"unit_offset": True}
GATED_ATTENTION = {"qk_norm": ZERO_CENTRED, "output_gate": {"source": "query"}}
GATED_EXPERTS = routed(**GATED_SHARED, expert_size=32, load_balance_coef=0.02)
DELTA_HEADS = {"n_heads": 2, "n_v_heads": 4, "head_dim": 16, "v_head_dim": 12}

QWEN3_NEXT = Family(
    name="qwen3_next",
    config="Qwen3NextConfig",
    model="Qwen3NextForCausalLM",
    losses={"output_router_logits": True},
    cases={
        "base": Case(
            document(
                "qwen3_next_tiny",
                {
                    "delta": delta(DELTA_HEADS, GATED_EXPERTS, ZERO_CENTRED),
                    "attending": attending(GATED_ATTENTION, GATED_EXPERTS, ZERO_CENTRED),
                },
                [{"pattern": ["delta", "delta", "delta", "attending"]}],
                # With a smaller one the norm over heads makes so much of rounding that the library's gradients miss
                # those of float64 by more than the bound
                model={"head_dim": 16, "norm_eps": 0.1},
                embedding={"rope": {"theta": 1000000.0, "partial": 0.25}},
                head=UNTIED,
            ),
            {**QWEN3_NEXT_SIZES, "rms_norm_eps": 0.1, "router_aux_loss_coef": 0.02},
        ),
        "dense": Case(
            document(
                "qwen3_next_dense",
                {
                    "delta": delta({**DELTA_HEADS, "d_conv": 3}, norm=ZERO_CENTRED),
                    "attending": attending({**GATED_ATTENTION, **BIASED}, GATED_EXPERTS, ZERO_CENTRED),
                },
                [{"pattern": ["attending", "delta"]}],
                model={"head_dim": 24, "norm_eps": 0.01},
                embedding={"rope": {"partial": 0.5}},
            ),
            {
                **QWEN3_NEXT_SIZES,
                "num_hidden_layers": 2,
                "head_dim": 24,
                "rms_norm_eps": 0.01,
                "attention_bias": True,
                "linear_conv_kernel_dim": 3,
                "layer_types": ["full_attention", "linear_attention"],
                "mlp_only_layers": [1],
                "router_aux_loss_coef": 0.02,
                "tie_word_embeddings": True,
                "rope_parameters": {**default_rope(10000.0), "partial_rotary_factor": 0.5},
            },
        ),
    },
    renames=qwen3_next_renames(2, 2, 16, 12),
    features=(
        Feature("memories", {"layer_templates.delta.mixer": {"type": "attention"}}, shows="weights"),
        Feature("heads of values", {f"{DELTA}.n_v_heads": GONE}, shows="weights"),
        Feature("width of their queries and keys", {f"{DELTA}.head_dim": 8}, shows="weights"),
        Feature("width of their values", {f"{DELTA}.v_head_dim": GONE}, shows="weights"),
        Feature("one decay a head", {"layer_templates.delta.mixer": {"type": "kda"}}, shows="weights"),
        Feature("gate of SiLU", {f"{DELTA}.gate": "sigmoid"}),
        Feature("writes of what is lacking at most", {f"{DELTA}.negative_eigenvalues": True}),
        Feature("gate of the attention", {f"{ATTENTION}.output_gate": GONE}, shows="weights"),
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("query and key norm centred at zero", {f"{ATTENTION}.qk_norm": "head"}),
        Feature("norms centred at zero", {"layer_templates.*.norm.unit_offset": False}),
        Feature("partial rotation", {"embedding.rope.partial": GONE}),
        Feature("rope theta", {"embedding.rope.theta": GONE}),
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("gate of the shared expert", {f"{MOE}.shared_gate": False}),
        Feature("width of the shared expert", {f"{MOE}.shared_size": 32}, shows="weights"),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("taps of the convolution", {f"{DELTA}.d_conv": GONE}, case="dense", shows="weights"),
        Feature("eps", {"model.norm_eps": GONE}, case="dense"),
        Feature("dense layer", {"layer_templates.delta.ffn": GATED_EXPERTS}, case="dense", shows="weights"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="dense"),
        Feature("tied head", {"head": UNTIED}, case="dense", shows="gradients"),
    ),
)

OLMO_HYBRID_SIZES: dict[str, Any] = {
    **LIBRARY,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 4,
    "layer_types": FOURTH,
    "tie_word_embeddings": False,
}
OLMO_DELTA = {
    "decay_dtype": "float32",
    "head_dim": 8,
    "v_head_dim": 16,
    "negative_eigenvalues": True,
    "norm_eps": 1.0e-5,
}
OLMO_SHARED = {"n_heads": 2, "n_v_heads": 4, "head_dim": 12, "norm_eps": 1.0e-5}
FLOAT32 = {"float32_weight": True}
OLMO_ATTENTION = {"qk_norm": {"over": "full", **FLOAT32}}
OUTPUT = {"position": "output", **FLOAT32}
OLMO_HYBRID = Family(
    name="olmo_hybrid",
    config="OlmoHybridConfig",
    model="OlmoHybridForCausalLM",
    cases={
        "base": Case(
            document(
                "olmo_hybrid_tiny",
                {"delta": delta(OLMO_DELTA, norm=FLOAT32), "attending": attending(OLMO_ATTENTION, norm=OUTPUT)},
                [{"pattern": ["delta", "delta", "delta", "attending"]}],
                embedding={"positional": "none"},
                head=UNTIED,
            ),
            {**OLMO_HYBRID_SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": None}},
        ),
        "rotating": Case(
            document(
                "olmo_hybrid_rotating",
                {
                    "delta": delta({**OLMO_SHARED, "decay_dtype": "float32"}, norm=FLOAT32),
                    "attending": attending({**OLMO_ATTENTION, "rope": {"precision": "float32"}}, norm=OUTPUT),
                },
                [{"pattern": ["attending", "delta"]}],
                model={"norm_eps": 0.01},
                embedding={"rope_theta": 500000.0},
            ),
            {
                **OLMO_HYBRID_SIZES,
                "num_hidden_layers": 2,
                "linear_key_head_dim": 12,
                "linear_value_head_dim": 12,
                "linear_num_key_heads": 2,
                "linear_allow_neg_eigval": False,
                "layer_types": ["full_attention", "linear_attention"],
                "rms_norm_eps": 0.01,
                "rope_parameters": default_rope(500000.0),
                "tie_word_embeddings": True,
            },
        ),
    },
    renames=(
        *(
            Rename(rf"(.*\.linear_attn)\.{part}_proj\.weight", (rf"\1.in_proj_qkv.weight#{place}",))
            for place, part in enumerate("qkv")
        ),
        Rename(r"(.*\.linear_attn)\.g_proj\.weight", (r"\1.in_proj_z.weight",)),
        Rename(r"(.*\.linear_attn)\.([ab])_proj\.weight", (r"\1.in_proj_\2.weight",)),
        Rename(r"(.*\.linear_attn)\.o_proj\.weight", (r"\1.out_proj.weight",)),
        Rename(r"(.*\.linear_attn)\.o_norm\.weight", (r"\1.norm.weight",)),
    ),
    features=(
        Feature("memories that may change sign", {f"{DELTA}.negative_eigenvalues": GONE}),
        Feature("width of their values", {f"{DELTA}.v_head_dim": GONE}, shows="weights"),
        Feature("width of their queries and keys", {f"{DELTA}.head_dim": GONE}, shows="weights"),
        Feature("eps of their norm", {f"{DELTA}.norm_eps": 0.01}),
        Feature("decays kept in float32", {f"{DELTA}.decay_dtype": GONE}, shows="bfloat16"),
        Feature("gate of SiLU", {f"{DELTA}.gate": "sigmoid"}),
        Feature("norms before memories", {"layer_templates.delta.norm": OUTPUT}),
        Feature("norms on the attention's output", {"layer_templates.attending.norm": FLOAT32}),
        Feature("norm weights in float32", {"layer_templates.delta.norm": {}}, shows="bfloat16"),
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}, shows="weights"),
        Feature("norms over all heads", {f"{ATTENTION}.qk_norm.over": GONE}, shows="weights"),
        Feature("no positions", {"embedding.positional": "rope"}),
        Feature("heads of values", {f"{DELTA}.n_v_heads": GONE}, case="rotating", shows="weights"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="rotating"),
        Feature("rotation in float32", {f"{ATTENTION}.rope.precision": GONE}, case="rotating", shows="bfloat16"),
        Feature("eps", {"model.norm_eps": GONE}, case="rotating"),
        Feature("tied head", {"head": UNTIED}, case="rotating", shows="gradients"),
    ),
)

KDA = "layer_templates.dense.mixer.kda"
KIMI_SIZES: dict[str, Any] = {
    **{name: value for name, value in LIBRARY.items() if name != "num_key_value_heads"},
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": None,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "num_hidden_layers": 3,
    "layer_types": ["full_attention", "linear_attention", "linear_attention"],
    "mlp_layer_types": ["sparse", "dense", "sparse"],
    "linear_head_dim": 12,
    "linear_num_heads": 4,
    "linear_conv_kernel_dim": 4,
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_token": 2,
    "num_shared_experts": 1,
    "routed_scaling_factor": 2.5,
    "num_expert_group": 4,
    "topk_group": 2,
}
KIMI_MLA = {**MLA, "q_rank": None, "rotate": False}
LATENT = "layer_templates.latent.mixer.attention"
KIMI_MOE = {**EXPERTS, "bias_correction": {"dtype": "model"}}
PLAIN_EXPERTS = {
    "type": "moe",
    "moe": {**{name: value for name, value in KIMI_MOE.items() if name != "groups"}, "normalize": False, "top_k": 3},
}
# The first layer has attention, whose projections are called the same
BEHIND = r"(model\.layers\.[1-9])\.self_attn"
KIMI_RENAMES = (
    *(
        Rename(rf"{BEHIND}\.{part}_proj\.weight", (rf"\1.linear_attn.in_proj_qkv.weight#{place}",))
        for place, part in enumerate("qkv")
    ),
    Rename(rf"{BEHIND}\.b_proj\.weight", (r"\1.linear_attn.in_proj_b.weight",)),
    Rename(rf"{BEHIND}\.o_proj\.weight", (r"\1.linear_attn.out_proj.weight",)),
    Rename(rf"{BEHIND}\.o_norm\.weight", (r"\1.linear_attn.norm.weight",)),
    Rename(rf"{BEHIND}\.forget_gate\.A_log", (r"\1.linear_attn.A_log",), lambda tensor: (tensor.flatten(),)),
    Rename(rf"{BEHIND}\.(?:forget_gate\.)?(.*)", (r"\1.linear_attn.\2",)),
)
KIMI_EXPERTS = {"type": "moe", "moe": KIMI_MOE}
KIMI_LINEAR = Family(
    name="kimi_linear",
    config="KimiLinearConfig",
    model="KimiLinearForCausalLM",
    cases={
        "base": Case(
            document(
                "kimi_linear_tiny",
                {
                    "dense": delta({"head_dim": 12}, kind="kda"),
                    "sparse": delta({"head_dim": 12}, KIMI_EXPERTS, kind="kda"),
                    "latent": attending({"mla": KIMI_MLA}, KIMI_EXPERTS),
                },
                [{"pattern": ["latent", "dense", "sparse"]}],
                model={"n_kv_heads": 4, "norm_eps": 1.0e-5},
                embedding={"positional": "none"},
                head=UNTIED,
            ),
            KIMI_SIZES,
        ),
        "low_rank": Case(
            document(
                "kimi_linear_low_rank",
                {
                    "delta": delta({"n_heads": 2, "head_dim": 16, "d_conv": 3}, kind="kda"),
                    "latent": attending({"mla": {**MLA, "rotate": False}}, PLAIN_EXPERTS),
                },
                [{"pattern": ["latent", "delta"]}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"positional": "none"},
                head=UNTIED,
            ),
            {
                **KIMI_SIZES,
                "num_hidden_layers": 2,
                "q_lora_rank": 24,
                "layer_types": ["full_attention", "linear_attention"],
                "mlp_layer_types": ["sparse", "dense"],
                "linear_head_dim": 16,
                "linear_num_heads": 2,
                "linear_conv_kernel_dim": 3,
                "num_expert_group": 1,
                "topk_group": 1,
                "num_experts_per_token": 3,
                "moe_renormalize": False,
                "rms_norm_eps": 0.01,
            },
        ),
    },
    renames=KIMI_RENAMES,
    features=(
        Feature(
            "a decay for each channel", {"layer_templates.dense.mixer": {"type": "gated_delta_net"}}, shows="weights"
        ),
        Feature("width of a memory's heads", {f"{KDA}.head_dim": GONE}, shows="weights"),
        Feature("gate of sigmoids", {f"{KDA}.gate": "silu"}),
        Feature("writes of what is lacking at most", {f"{KDA}.negative_eigenvalues": True}),
        Feature("rank of decays and gates", {f"{KDA}.rank": 5}, shows="weights"),
        Feature("latent attention", {"layer_templates.latent.mixer.attention": {}}, shows="weights"),
        Feature("no positions", {f"{LATENT}.mla.rotate": GONE, "embedding.positional": "rope"}),
        Feature("full queries", {f"{LATENT}.mla.q_rank": 24}, shows="weights"),
        Feature("width of a value head", {f"{LATENT}.mla.v_dim": 16}, shows="weights"),
        Feature(
            "key shared by the heads", {f"{LATENT}.mla.rope_dim": 0, f"{LATENT}.mla.rotate": GONE}, shows="weights"
        ),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("dense layer", {"layer_schedule": [{"pattern": ["latent", "sparse", "sparse"]}]}, shows="weights"),
        Feature("eps", {"model.norm_eps": GONE}),
        Feature(
            "heads of memories", {"layer_templates.delta.mixer.kda.n_heads": GONE}, case="low_rank", shows="weights"
        ),
        Feature(
            "taps of the convolution",
            {"layer_templates.delta.mixer.kda.d_conv": GONE},
            case="low_rank",
            shows="weights",
        ),
        Feature("low rank of the queries", {f"{LATENT}.mla.q_rank": GONE}, case="low_rank", shows="weights"),
        Feature("weights left undivided", {f"{MOE}.normalize": True}, case="low_rank"),
        Feature("untied head", {"head": {}}, case="low_rank", shows="gradients"),
    ),
)
