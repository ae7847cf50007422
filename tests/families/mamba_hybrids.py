"""Families of state space mixers beside attention: Jamba, Bamba, Granite 4, Nemotron-H."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.experts import CHOSEN, GRANITE_MULTIPLIERS, GRANITE_RENAMES, halves, routed
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.mambas import ROUNDED
from tests.families.specs import LIBRARY, default_rope, document

MAMBA = "layer_templates.mamba.mixer.mamba"
MOE = f"{FFN}.moe"
DENSE: dict[str, Any] = {"type": "gated_mlp"}
NOPE = {"positional": "none"}


def recurrent(mamba: dict[str, Any], ffn: dict[str, Any] | None = None, **rest: Any) -> Spec:
    """A layer template with a state space mixer."""
    return {"mixer": {"type": "mamba", "mamba": mamba}, "ffn": ffn or DENSE, **rest}


def attending(attention: dict[str, Any] | None = None, ffn: dict[str, Any] | None = None, **rest: Any) -> Spec:
    """A layer template with attention."""
    return {"mixer": {"type": "attention", "attention": attention or {}}, "ffn": ffn or DENSE, **rest}


FINAL_NORM = Rename(r"model\.final_layernorm\.weight", ("model.norm.weight",))
PRE_FF_NORM = Rename(r"(.*)\.pre_ff_layernorm\.weight", (r"\1.post_attention_layernorm.weight",))

JAMBA_SIZES: dict[str, Any] = {
    **LIBRARY,
    "attn_layer_offset": 2,
    "attn_layer_period": 4,
    "expert_layer_offset": 1,
    "expert_layer_period": 2,
    "mamba_d_state": 8,
    "mamba_dt_rank": 5,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
JAMBA_MIXER = {"variant": "mamba1", "d_state": 8, "dt_rank": 5, "state_norm": "rms"}
JAMBA_EXPERTS = {"normalize": False, "weights_dtype": "model"}

JAMBA_RENAMES = (
    FINAL_NORM,
    PRE_FF_NORM,
    Rename(r"(.*)\.feed_forward\.router\.weight", (r"\1.mlp.gate.weight",)),
    Rename(r"(.*)\.feed_forward\.(.*)", (r"\1.mlp.\2",)),
)

JAMBA = Family(
    name="jamba",
    config="JambaConfig",
    model="JambaForCausalLM",
    losses={"output_router_logits": True},
    rounding=ROUNDED,
    cases={
        "base": Case(
            document(
                "jamba_tiny",
                {
                    "mamba": recurrent(JAMBA_MIXER),
                    "sparse": recurrent(JAMBA_MIXER, routed(**JAMBA_EXPERTS, load_balance_coef=0.02)),
                    "attention": attending(),
                },
                [{"pattern": ["mamba", "sparse", "attention", "sparse"]}],
                embedding=NOPE,
                head=UNTIED,
            ),
            {**JAMBA_SIZES, "router_aux_loss_coef": 0.02},
        ),
    },
    renames=JAMBA_RENAMES,
    features=(
        Feature("norms of steps, B and C", {f"{MAMBA}.state_norm": GONE}),
        Feature("a decay for each channel", {MAMBA: {"d_state": 8}}, shows="weights"),
        Feature("rank of the step", {f"{MAMBA}.dt_rank": GONE}, shows="weights"),
        Feature("size of the state", {f"{MAMBA}.d_state": GONE}, shows="weights"),
        Feature("no positions", {"embedding.positional": "rope"}),
        Feature("weights left undivided", {f"{MOE}.normalize": True}),
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("weights in the model's dtype", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
    ),
)

JAMBA_DENSE = Family(
    name="jamba_dense",
    config="JambaConfig",
    model="JambaForCausalLM",
    rounding=ROUNDED,
    cases={
        "base": Case(
            document(
                "jamba_dense",
                {
                    "mamba": recurrent(
                        {**JAMBA_MIXER, "d_conv": 3, "expand": 3, "conv_bias": False},
                    ),
                    "attention": attending(),
                },
                [{"pattern": ["attention", "mamba"], "repeat": 2}],
                model={"norm_eps": 0.01},
                embedding=NOPE,
            ),
            {
                **JAMBA_SIZES,
                "attn_layer_offset": 0,
                "attn_layer_period": 2,
                "num_experts": 1,
                "mamba_d_conv": 3,
                "mamba_expand": 3,
                "mamba_conv_bias": False,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    renames=JAMBA_RENAMES,
    features=(
        Feature("taps of the convolution", {f"{MAMBA}.d_conv": GONE}, shows="weights"),
        Feature("inner width", {f"{MAMBA}.expand": GONE}, shows="weights"),
        Feature("no bias of the convolution", {f"{MAMBA}.conv_bias": GONE}, shows="weights"),
        Feature("eps", {"model.norm_eps": GONE}),
    ),
)

BAMBA_SIZES: dict[str, Any] = {
    **LIBRARY,
    "attn_layer_indices": [2],
    "mamba_chunk_size": 8,
    "mamba_d_conv": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_expand": 2,
    "mamba_n_groups": 2,
    "mamba_n_heads": 8,
    "rope_parameters": {**default_rope(10000.0), "partial_rotary_factor": 0.5},
}
BAMBA_MIXER = {"d_state": 16, "head_dim": 16, "n_groups": 2, "chunk_size": 8}

BAMBA = Family(
    name="bamba",
    config="BambaConfig",
    model="BambaForCausalLM",
    cases={
        "base": Case(
            document(
                "bamba_tiny",
                {"mamba": recurrent(BAMBA_MIXER), "attention": attending()},
                [{"pattern": ["mamba", "mamba", "attention", "mamba"]}],
                model={"norm_eps": 1e-5},
                embedding={"rope": {"theta": 10000.0, "partial": 0.5}},
                head=UNTIED,
            ),
            BAMBA_SIZES,
        ),
        "biased": Case(
            document(
                "bamba_biased",
                {
                    "mamba": recurrent(
                        {
                            "d_state": 24,
                            "head_dim": 32,
                            "d_conv": 3,
                            "expand": 1,
                            "conv_bias": False,
                            "chunk_size": 8,
                        },
                        {**DENSE, "bias": True},
                    ),
                    "attention": attending({"qkv_bias": True, "out_bias": True}, {**DENSE, "bias": True}),
                },
                [{"pattern": ["attention", "mamba"], "repeat": 2}],
                model={"norm_eps": 0.01},
                embedding={"rope": {"theta": 5000.0, "partial": 0.5}},
            ),
            {
                **BAMBA_SIZES,
                "attn_layer_indices": [0, 2],
                "mamba_d_conv": 3,
                "mamba_d_head": 32,
                "mamba_d_state": 24,
                "mamba_expand": 1,
                "mamba_n_groups": 1,
                "mamba_n_heads": 2,
                "mamba_conv_bias": False,
                "attention_bias": True,
                "mlp_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {**default_rope(5000.0), "partial_rotary_factor": 0.5},
            },
        ),
        # The library's steps of one token know no bounds
        "limited": Case(
            document(
                "bamba_limited",
                {"mamba": recurrent({**BAMBA_MIXER, "dt_limit": [0.1, 0.7]}), "attention": attending()},
                [{"pattern": ["mamba", "attention"]}],
                model={"norm_eps": 1e-5},
                embedding={"rope": {"theta": 10000.0, "partial": 0.5}},
            ),
            {
                **BAMBA_SIZES,
                "num_hidden_layers": 2,
                "attn_layer_indices": [1],
                "time_step_limit": [0.1, 0.7],
                "tie_word_embeddings": True,
            },
        ),
    },
    renames=(FINAL_NORM, PRE_FF_NORM, Rename(r"(.*)\.feed_forward\.(.*)", (r"\1.mlp.\2",))),
    features=(
        Feature("width of a head", {f"{MAMBA}.head_dim": GONE}, shows="weights"),
        Feature("size of the state", {f"{MAMBA}.d_state": GONE}, shows="weights"),
        Feature("groups of heads", {f"{MAMBA}.n_groups": GONE}, shows="weights"),
        Feature("taps of the convolution", {f"{MAMBA}.d_conv": GONE}, case="biased", shows="weights"),
        Feature("inner width", {f"{MAMBA}.expand": GONE}, case="biased", shows="weights"),
        Feature("no bias of the convolution", {f"{MAMBA}.conv_bias": GONE}, case="biased", shows="weights"),
        Feature("bounds of the step", {f"{MAMBA}.dt_limit": GONE}, case="limited", shows="gradients"),
        Feature("norm behind the gate", {f"{MAMBA}.norm": "norm_first"}),
        Feature("share that rotates", {"embedding.rope.partial": 1.0}),
        Feature("rope theta", {"embedding.rope.theta": 10000.0}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)

GRANITE4_SIZES: dict[str, Any] = {
    **LIBRARY,
    "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
    "mamba_chunk_size": 8,
    "mamba_d_conv": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 8,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "shared_intermediate_size": 48,
}
GRANITE4_MIXER = {"d_state": 16, "head_dim": 16, "chunk_size": 8}
GRANITE4_EXPERTS = routed(**CHOSEN, shared_experts=1, shared_size=48, load_balance_coef=0.02)
SCALED = {"residual": {"scaling": 0.7}}
SCHEDULE = [{"pattern": ["mamba", "mamba", "attention", "mamba"]}]

GRANITEMOEHYBRID = Family(
    name="granitemoehybrid",
    config="GraniteMoeHybridConfig",
    model="GraniteMoeHybridForCausalLM",
    losses={"output_router_logits": True},
    cases={
        "base": Case(
            document(
                "granitemoehybrid_tiny",
                {
                    "mamba": recurrent(GRANITE4_MIXER, GRANITE4_EXPERTS, **SCALED),
                    "attention": attending({"scale": 0.2}, GRANITE4_EXPERTS, **SCALED),
                },
                SCHEDULE,
                embedding={**NOPE, "scale": 3.0},
                head={**UNTIED, "logit_divisor": 4.0},
            ),
            {**GRANITE4_SIZES, **GRANITE_MULTIPLIERS, "router_aux_loss_coef": 0.02},
        ),
    },
    renames=(
        *GRANITE_RENAMES,
        Rename(
            r"(.*)\.shared_mlp\.input_linear\.weight",
            (r"\1.mlp.shared_experts.gate_proj.weight", r"\1.mlp.shared_experts.up_proj.weight"),
            halves,
        ),
        Rename(r"(.*)\.shared_mlp\.output_linear\.weight", (r"\1.mlp.shared_experts.down_proj.weight",)),
    ),
    features=(
        Feature("width of a head", {f"{MAMBA}.head_dim": GONE}, shows="weights"),
        Feature("size of the state", {f"{MAMBA}.d_state": GONE}, shows="weights"),
        Feature("no positions", {"embedding.positional": "rope"}),
        Feature("two experts a token", {f"{MOE}.top_k": 1}),
        Feature("experts chosen by logits", {f"{MOE}.score_over": GONE, f"{MOE}.normalize": False}),
        Feature("weights in the model's dtype", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("shared expert", {f"{MOE}.shared_experts": 0, f"{MOE}.shared_size": GONE}),
        Feature("scale of the scores", {f"{ATTENTION}.scale": GONE}),
        Feature("factor on sublayers", {"layer_templates.*.residual.scaling": GONE}),
        Feature("factor on the embedding", {"embedding.scale": GONE}),
        Feature("divisor of the logits", {"head.logit_divisor": GONE}),
    ),
)

GRANITE4_DENSE = Family(
    name="granitemoehybrid_dense",
    config="GraniteMoeHybridConfig",
    model="GraniteMoeHybridForCausalLM",
    cases={
        "base": Case(
            document(
                "granitemoehybrid_dense",
                {
                    "mamba": recurrent(
                        {"d_state": 24, "head_dim": 32, "n_groups": 2, "chunk_size": 4, "conv_bias": False},
                    ),
                    "attention": attending({"scale": 1.0, "qkv_bias": True, "out_bias": True}),
                },
                SCHEDULE,
                model={"norm_eps": 0.01},
                embedding={"rope_theta": 5000.0},
            ),
            {
                **GRANITE4_SIZES,
                "num_local_experts": 0,
                "shared_intermediate_size": 96,
                "mamba_chunk_size": 4,
                "mamba_d_head": 32,
                "mamba_d_state": 24,
                "mamba_n_groups": 2,
                "mamba_n_heads": 4,
                "mamba_conv_bias": False,
                "position_embedding_type": "rope",
                "rope_parameters": default_rope(5000.0),
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    renames=(
        Rename(
            r"(.*)\.shared_mlp\.input_linear\.weight",
            (r"\1.mlp.gate_proj.weight", r"\1.mlp.up_proj.weight"),
            halves,
        ),
        Rename(r"(.*)\.shared_mlp\.output_linear\.weight", (r"\1.mlp.down_proj.weight",)),
    ),
    features=(
        Feature("width of a head", {f"{MAMBA}.head_dim": GONE}, shows="weights"),
        Feature("size of the state", {f"{MAMBA}.d_state": GONE}, shows="weights"),
        Feature("groups of heads", {f"{MAMBA}.n_groups": GONE}, shows="weights"),
        Feature("no bias of the convolution", {f"{MAMBA}.conv_bias": GONE}, shows="weights"),
        Feature("scores as they are", {f"{ATTENTION}.scale": GONE}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("eps", {"model.norm_eps": GONE}),
    ),
)

ALONE: dict[str, Any] = {"type": "none"}
NEMOTRON_MIXER = {"d_state": 16, "head_dim": 16, "n_groups": 2, "chunk_size": 8, "dt_limit": [0.001, 1e9]}
"""The library bounds steps from below alone."""
NEMOTRON_EXPERTS: dict[str, Any] = {
    "experts": 4,
    "top_k": 2,
    "expert_size": 32,
    "gated_experts": False,
    "router": "sigmoid",
    "router_float32": True,
    "bias_correction": {"enabled": True, "dtype": "float32"},
    "shared_experts": 1,
    "shared_size": 48,
    "load_balance_coef": 0.0,
}
NEMOTRON_SIZES: dict[str, Any] = {
    **LIBRARY,
    "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
    "chunk_size": 8,
    "head_dim": 16,
    "mamba_head_dim": 16,
    "mamba_num_heads": 8,
    "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 48,
    "n_groups": 2,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "ssm_state_size": 16,
}
RELU2 = {"activation": "relu2"}
FLOAT32_NORM = {"norm": {"float32_weight": True}}


def nemotron(mamba: dict[str, Any], experts: dict[str, Any], attention: dict[str, Any], bias: bool) -> dict[str, Spec]:
    """Templates of one sublayer each."""
    return {
        "mamba": recurrent(mamba, ALONE, **FLOAT32_NORM),
        "sparse": {"mixer": ALONE, "ffn": {"type": "moe", **RELU2, "moe": experts}, **FLOAT32_NORM},
        "attention": attending(attention, ALONE, **FLOAT32_NORM),
        "dense": {"mixer": ALONE, "ffn": {"type": "mlp", **RELU2, "bias": bias}, **FLOAT32_NORM},
    }


NEMOTRON_H = Family(
    name="nemotron_h",
    config="NemotronHConfig",
    model="NemotronHForCausalLM",
    cases={
        "base": Case(
            document(
                "nemotron_h_tiny",
                nemotron(NEMOTRON_MIXER, {**NEMOTRON_EXPERTS, "latent_size": 32, "scale": 2.5}, {}, False),
                [{"pattern": ["mamba", "sparse", "attention", "dense"]}],
                model={"norm_eps": 1e-5},
                embedding=NOPE,
                head=UNTIED,
            ),
            {**NEMOTRON_SIZES, "moe_latent_size": 32, "routed_scaling_factor": 2.5},
        ),
        "grouped": Case(
            document(
                "nemotron_h_grouped",
                nemotron(
                    {
                        "d_state": 24,
                        "d_conv": 3,
                        "expand": 1,
                        "head_dim": 32,
                        "chunk_size": 4,
                        "conv_bias": False,
                        "dt_limit": [0.001, 1e9],
                    },
                    {
                        **NEMOTRON_EXPERTS,
                        "experts": 8,
                        "groups": {"count": 4, "limit": 2},
                        "normalize": False,
                        "shared_bias": True,
                    },
                    {},
                    True,
                ),
                [{"pattern": ["mamba", "sparse", "attention", "dense"]}],
                model={"norm_eps": 0.01, "head_dim": 24},
                embedding=NOPE,
                head=UNTIED,
            ),
            {
                **NEMOTRON_SIZES,
                "chunk_size": 4,
                "conv_kernel": 3,
                "head_dim": 24,
                "mamba_head_dim": 32,
                "mamba_num_heads": 2,
                "n_groups": 1,
                "ssm_state_size": 24,
                "use_conv_bias": False,
                "n_routed_experts": 8,
                "n_group": 4,
                "topk_group": 2,
                "norm_topk_prob": False,
                "mlp_bias": True,
                "layer_norm_epsilon": 0.01,
            },
        ),
        # The library's steps of one token know no bounds
        "limited": Case(
            document(
                "nemotron_h_limited",
                {
                    "mamba": recurrent({**NEMOTRON_MIXER, "dt_limit": [0.5, 1e9]}, ALONE, **FLOAT32_NORM),
                    "attention": attending({}, ALONE, **FLOAT32_NORM),
                },
                [{"pattern": ["mamba", "attention"]}],
                model={"norm_eps": 1e-5},
                embedding=NOPE,
                head=UNTIED,
            ),
            {
                **NEMOTRON_SIZES,
                "layers_block_type": ["linear_attention", "full_attention"],
                "time_step_min": 0.5,
                "time_step_max": 0.9,
            },
        ),
    },
    renames=(
        Rename(r"model\.embeddings\.weight", ("model.embed_tokens.weight",)),
        Rename(r"model\.norm_f\.weight", ("model.norm.weight",)),
        Rename(r"(model\.layers\.\d+)\.norm\.weight", (r"\1.input_layernorm.weight",)),
        Rename(r"(.*)\.mixer\.((?:A_log|D|dt_bias|conv1d|in_proj|norm|out_proj)\b.*)", (r"\1.mamba.\2",)),
        Rename(r"(.*)\.mixer\.([qkvo]_proj\..*)", (r"\1.self_attn.\2",)),
        Rename(r"(.*)\.mixer\.(.*)", (r"\1.mlp.\2",)),
    ),
    features=(
        Feature("width of a head", {f"{MAMBA}.head_dim": GONE}, shows="weights"),
        Feature("groups of heads", {f"{MAMBA}.n_groups": GONE}, shows="weights"),
        Feature("size of the state", {f"{MAMBA}.d_state": GONE}, shows="weights"),
        Feature("taps of the convolution", {f"{MAMBA}.d_conv": GONE}, case="grouped", shows="weights"),
        Feature("inner width", {f"{MAMBA}.expand": GONE}, case="grouped", shows="weights"),
        Feature("no bias of the convolution", {f"{MAMBA}.conv_bias": GONE}, case="grouped", shows="weights"),
        Feature("least step", {f"{MAMBA}.dt_limit": GONE}, case="limited", shows="gradients"),
        Feature("norms in float32", {"layer_templates.*.norm.float32_weight": GONE}, shows="bfloat16"),
        Feature("no positions", {"embedding.positional": "rope"}),
        Feature("squared ReLU", {"layer_templates.dense.ffn.activation": "relu"}),
        Feature("squared ReLU of experts", {"layer_templates.sparse.ffn.activation": "relu"}),
        Feature("feed-forward biases", {"layer_templates.dense.ffn.bias": False}, case="grouped"),
        Feature("biases of shared experts", {f"{MOE}.shared_bias": GONE}, case="grouped", shows="weights"),
        Feature("experts that are no gated units", {f"{MOE}.gated_experts": GONE}, shows="weights"),
        Feature("experts in a latent", {f"{MOE}.latent_size": GONE}, shows="weights"),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("router in float32", {f"{MOE}.router_float32": GONE}, shows="bfloat16"),
        Feature("factor on the routed weights", {f"{MOE}.scale": GONE}),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0, f"{MOE}.shared_size": GONE}),
        Feature("groups of experts", {f"{MOE}.groups": GONE}, case="grouped"),
        Feature("weights left undivided", {f"{MOE}.normalize": True}, case="grouped"),
        Feature("eps", {"model.norm_eps": GONE}, case="grouped"),
    ),
)
