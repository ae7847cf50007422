"""Families of state space mixers alone: Mamba and FalconMamba."""

from __future__ import annotations

from typing import Any

from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec

MAMBA = "layer_templates.block.mixer.mamba"
UNTIED = {"tie_weights": False}
SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "state_size": 8,
    "residual_in_fp32": False,
}
"""Sizes of the library's models."""

ROUNDED = "the library rounds steps, and the states that it reads, to bfloat16"

NAMES = (
    Rename(r"backbone\.embeddings\.weight", ("model.embed_tokens.weight",)),
    Rename(r"backbone\.norm_f\.weight", ("model.norm.weight",)),
    Rename(r"backbone\.layers\.(\d+)\.norm\.weight", (r"model.layers.\1.input_layernorm.weight",)),
    Rename(r"backbone\.layers\.(\d+)\.mixer\.(.*)", (r"model.layers.\1.mamba.\2",)),
)
"""How tensors of a model of mixers alone are called here."""


def mixers(
    name: str, mamba: dict[str, Any], *, layers: int = 4, head: dict[str, Any] | None = None, **rest: Any
) -> Spec:
    """A model of mixers without feed-forward networks."""
    return {
        "schema_version": 1,
        "model": {
            "name": name,
            "d_model": 64,
            "vocab_size": 128,
            "max_seq_len": 128,
            "n_heads": 4,
            "norm_eps": 1e-5,
            "dtype": "float32",
            **rest,
        },
        "embedding": {"positional": "none"},
        "head": head or {},
        "layer_templates": {"block": {"mixer": {"type": "mamba", "mamba": mamba}, "ffn": {"type": "none"}}},
        "layer_schedule": [{"template": "block", "repeat": layers}],
    }


MAMBA1 = Family(
    name="mamba",
    config="MambaConfig",
    model="MambaForCausalLM",
    rounding=ROUNDED,
    # Where its projections have biases, what they give for padding reaches the convolution
    pads=False,
    cases={
        "base": Case(
            mixers("selective", {"variant": "mamba1", "d_state": 8}, residual_dtype="float32"),
            {**SIZES, "residual_in_fp32": True},
        ),
        "biased": Case(
            mixers(
                "selective_biased",
                {
                    "variant": "mamba1",
                    "d_conv": 3,
                    "expand": 1,
                    "dt_rank": 6,
                    "conv_bias": False,
                    "proj_bias": True,
                },
                head=UNTIED,
                norm_eps=0.01,
            ),
            {
                **SIZES,
                "state_size": 16,
                "conv_kernel": 3,
                "expand": 1,
                "time_step_rank": 6,
                "use_conv_bias": False,
                "use_bias": True,
                "tie_word_embeddings": False,
                "layer_norm_epsilon": 0.01,
            },
        ),
    },
    renames=NAMES,
    features=(
        Feature("a decay for each channel", {MAMBA: {"d_state": 8}}, shows="weights"),
        Feature("inner width", {f"{MAMBA}.expand": GONE}, case="biased", shows="weights"),
        Feature("rank of the step", {f"{MAMBA}.dt_rank": GONE}, case="biased", shows="weights"),
        Feature("size of the state", {f"{MAMBA}.d_state": GONE}, shows="weights"),
        Feature("taps of the convolution", {f"{MAMBA}.d_conv": GONE}, case="biased", shows="weights"),
        Feature("bias of the convolution", {f"{MAMBA}.conv_bias": False}),
        Feature("biases of the projections", {f"{MAMBA}.proj_bias": False}, case="biased"),
        Feature("no positions", {"embedding.positional": "sinusoidal"}),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("stream in float32", {"model.residual_dtype": GONE}, shows="bfloat16"),
    ),
)

FALCON_MAMBA = Family(
    name="falcon_mamba",
    config="FalconMambaConfig",
    model="FalconMambaForCausalLM",
    rounding=ROUNDED,
    cases={
        "base": Case(
            mixers(
                "selective_normed",
                {"variant": "mamba1", "d_state": 8, "state_norm": "rms_unweighted", "norm_eps": 0.02},
                head=UNTIED,
            ),
            {**SIZES, "mixer_rms_eps": 0.02, "tie_word_embeddings": False},
        ),
        "tied": Case(
            mixers(
                "selective_normed_tied",
                {"variant": "mamba1", "state_norm": "rms_unweighted", "norm_eps": 1e-6, "dt_rank": 5, "expand": 3},
                layers=2,
            ),
            {**SIZES, "num_hidden_layers": 2, "state_size": 16, "time_step_rank": 5, "expand": 3},
        ),
    },
    renames=NAMES,
    features=(
        Feature("norms of steps, B and C", {f"{MAMBA}.state_norm": GONE, f"{MAMBA}.norm_eps": GONE}),
        Feature("no weights in them", {f"{MAMBA}.state_norm": "rms"}, shows="weights"),
        Feature("their eps", {f"{MAMBA}.norm_eps": GONE}),
        Feature("size of the state", {f"{MAMBA}.d_state": GONE}, shows="weights"),
        Feature("inner width", {f"{MAMBA}.expand": GONE}, case="tied", shows="weights"),
        Feature("rank of the step", {f"{MAMBA}.dt_rank": GONE}, case="tied", shows="weights"),
        Feature("a decay for each channel", {MAMBA: {"d_state": 8}}, shows="weights"),
        Feature("no positions", {"embedding.positional": "sinusoidal"}),
        Feature("eps of the norms before mixers", {"model.norm_eps": 0.01}),
        Feature("untied head", {"head": {}}, shows="gradients"),
    ),
)

MAMBA2_SIZES = {
    **SIZES,
    "state_size": 16,
    "chunk_size": 8,
    "head_dim": 16,
    "n_groups": 2,
    "num_heads": 8,
}

MAMBA2 = Family(
    name="mamba2",
    config="Mamba2Config",
    model="Mamba2ForCausalLM",
    # Where its projections have biases, what they give for padding reaches the convolution
    pads=False,
    cases={
        "base": Case(
            mixers(
                "state_space",
                {"d_state": 16, "head_dim": 16, "n_groups": 2, "chunk_size": 8},
                head=UNTIED,
                residual_dtype="float32",
            ),
            {**MAMBA2_SIZES, "residual_in_fp32": True},
        ),
        "biased": Case(
            mixers(
                "state_space_biased",
                {
                    "d_state": 16,
                    "d_conv": 3,
                    "expand": 1,
                    "head_dim": 32,
                    "chunk_size": 4,
                    "conv_bias": False,
                    "proj_bias": True,
                },
                layers=2,
                norm_eps=0.01,
            ),
            {
                **MAMBA2_SIZES,
                "num_hidden_layers": 2,
                "conv_kernel": 3,
                "expand": 1,
                "head_dim": 32,
                "n_groups": 1,
                "num_heads": 2,
                "chunk_size": 4,
                "use_conv_bias": False,
                "use_bias": True,
                "layer_norm_epsilon": 0.01,
                "tie_word_embeddings": True,
            },
        ),
        # The library's steps of one token know no bounds
        "limited": Case(
            mixers(
                "state_space_limited",
                {"d_state": 16, "head_dim": 16, "n_groups": 2, "chunk_size": 8, "dt_limit": [0.1, 0.7]},
                layers=2,
            ),
            {**MAMBA2_SIZES, "num_hidden_layers": 2, "time_step_limit": (0.1, 0.7), "tie_word_embeddings": True},
        ),
    },
    renames=NAMES,
    features=(
        Feature("width of a head", {f"{MAMBA}.head_dim": GONE}, shows="weights"),
        Feature("groups of heads", {f"{MAMBA}.n_groups": GONE}, shows="weights"),
        Feature("inner width", {f"{MAMBA}.expand": GONE}, case="biased", shows="weights"),
        Feature("size of the state", {f"{MAMBA}.d_state": GONE}, shows="weights"),
        Feature("taps of the convolution", {f"{MAMBA}.d_conv": GONE}, case="biased", shows="weights"),
        Feature("bias of the convolution", {f"{MAMBA}.conv_bias": False}),
        Feature("biases of the projections", {f"{MAMBA}.proj_bias": False}, case="biased"),
        Feature("stream in float32", {"model.residual_dtype": GONE}, shows="bfloat16"),
        Feature("bounds of the step", {f"{MAMBA}.dt_limit": GONE}, case="limited", shows="gradients"),
        Feature("norm behind the gate", {f"{MAMBA}.norm": "norm_first"}),
        Feature("no positions", {"embedding.positional": "sinusoidal"}),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
    ),
)
