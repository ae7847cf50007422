"""Families with layer norms and gated feed-forwards: Cohere, Cohere Compass, StableLM."""

from __future__ import annotations

from typing import Any

import torch

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.specs import BIASED, GLOBAL, LIBRARY, LOCAL, QKV_BIASED, SHALLOW, TWO, block, default_rope, document

COHERE_NORM = {"type": "layernorm", "bias": False, "float32_weight": True}
COHERE_ROPE: dict[str, Any] = {"interleaved": True, "precision": "float32_rotation"}
COHERE_QK_NORM = {"type": "layernorm", "over": "heads", "float32_weight": True}
COHERE = Family(
    name="cohere",
    config="CohereConfig",
    model="CohereForCausalLM",
    cases={
        "base": Case(
            document(
                "cohere_tiny",
                {"block": block(norm=COHERE_NORM, residual={"type": "parallel"})},
                TWO,
                embedding={"rope": {**COHERE_ROPE, "theta": 8000000.0}},
                head={"logit_scale": 0.0625},
            ),
            {**SHALLOW, "rope_parameters": default_rope(8000000.0)},
        ),
        "normed": Case(
            document(
                "cohere_normed",
                {"block": block({"qk_norm": COHERE_QK_NORM}, norm=COHERE_NORM, residual={"type": "parallel"})},
                TWO,
                embedding={"rope": COHERE_ROPE},
                head={"logit_scale": 0.0625},
            ),
            {**SHALLOW, "use_qk_norm": True, "rope_parameters": default_rope(10000.0)},
        ),
        "biased": Case(
            document(
                "cohere_biased",
                {"block": block(BIASED, {"activation": "geglu"}, COHERE_NORM, {"type": "parallel"})},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": COHERE_ROPE},
                head={**UNTIED, "logit_scale": 0.3},
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "attention_bias": True,
                "hidden_act": "gelu",
                "layer_norm_eps": 0.01,
                "logit_scale": 0.3,
                "tie_word_embeddings": False,
                "rope_parameters": default_rope(10000.0),
            },
        ),
    },
    features=(
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("rotation in float32", {"embedding.rope.precision": GONE}, shows="bfloat16"),
        Feature("tables in the model's dtype", {"embedding.rope.precision": "float32"}, shows="bfloat16"),
        Feature("rope theta", {"embedding.rope.theta": GONE}),
        Feature("parallel sublayers", {"layer_templates.*.residual.type": "sequential"}),
        Feature("order of additions", {"layer_templates.*.residual.sum": "sublayers_first"}, shows="bfloat16"),
        Feature("layer norm", {NORM: {"type": "rmsnorm"}}),
        Feature("logit scale", {"head.logit_scale": GONE}),
        Feature("tied head", {"head.tie_weights": False}, shows="gradients"),
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}, case="normed"),
        Feature("a weight for each head", {f"{ATTENTION}.qk_norm.over": "head"}, case="normed", shows="weights"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)


def compass_templates(attention: dict[str, Any], window: int, wide: dict[str, Any]) -> dict[str, Spec]:
    """A local layer with the model's rope, and a global one with a rope of its own or none."""
    residual = {"type": "parallel"}
    return {
        "local": block({**attention, "window": window}, norm=COHERE_NORM, residual=residual),
        "global": block({**attention, **wide}, norm=COHERE_NORM, residual=residual),
    }


SECTIONS = {"mrope_section": [4, 2, 2]}
COHERE_COMPASS_TEXT = Family(
    name="cohere_compass_text",
    config="CohereCompassTextConfig",
    model="CohereCompassForCausalLM",
    cases={
        "base": Case(
            document(
                "compass_tiny",
                compass_templates({}, 8, {"rope": "none"}),
                [{"pattern": ["local", "local", "global"]}],
                model={"head_dim": 16},
                embedding={"rope_theta": 50000.0},
                head={"logit_scale": 0.25},
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 3,
                "head_dim": 16,
                "logit_scale": 0.25,
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
                "rope_parameters": {
                    "sliding_attention": default_rope(50000.0, **SECTIONS),
                    "full_attention": None,
                },
            },
        ),
        "biased": Case(
            document(
                "compass_biased",
                compass_templates(BIASED, 5, {"rope": {"theta": 500.0}}),
                [{"pattern": ["global", "local"]}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "attention_bias": True,
                "layer_norm_eps": 0.01,
                "sliding_window": 5,
                "layer_types": ["full_attention", "sliding_attention"],
                "tie_word_embeddings": False,
                "rope_parameters": {
                    "sliding_attention": default_rope(10000.0, **SECTIONS),
                    "full_attention": default_rope(500.0, **SECTIONS),
                },
            },
        ),
    },
    features=(
        Feature("global layers without rope", {f"{GLOBAL}.rope": GONE}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("parallel sublayers", {"layer_templates.*.residual.type": "sequential"}),
        Feature("layer norm", {NORM: {"type": "rmsnorm"}}),
        Feature("logit scale", {"head.logit_scale": GONE}),
        Feature("tied head", {"head.tie_weights": False}, shows="gradients"),
        Feature("theta of the global layers", {f"{GLOBAL}.rope": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)


def one_row(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The weight of one head's norm, as a row of all heads' weights."""
    return (tensor[None],)


STABLELM = Family(
    name="stablelm",
    config="StableLmConfig",
    model="StableLmForCausalLM",
    renames=(
        Rename(
            r"(.*)\.self_attn\.([qk])_layernorm\.norms\.(\d+)\.weight", (r"\1.self_attn.\2_norm.weight#\3",), one_row
        ),
    ),
    cases={
        "normed": Case(
            document(
                "stablelm_normed",
                {
                    "block": block(
                        {"qk_norm": {"over": "heads", "type": "layernorm"}},
                        norm={"type": "layernorm"},
                        residual={"type": "parallel"},
                    )
                },
                TWO,
                embedding={"rope": {"partial": 0.25}},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "qk_layernorm": True,
                "use_parallel_residual": True,
                "rope_parameters": default_rope(10000.0, partial_rotary_factor=0.25),
            },
        ),
        "base": Case(
            document(
                "stablelm_tiny",
                {"block": block(QKV_BIASED, norm={"type": "layernorm"})},
                TWO,
                embedding={"rope": {"partial": 0.25}},
                head=UNTIED,
            ),
            {**SHALLOW, "use_qkv_bias": True, "rope_parameters": default_rope(10000.0, partial_rotary_factor=0.25)},
        ),
        "parallel": Case(
            document(
                "stablelm_parallel",
                {"block": block({}, {"activation": "geglu"}, {"type": "layernorm"}, {"type": "parallel"})},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"partial": 0.5, "theta": 50000.0}},
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "hidden_act": "gelu",
                "layer_norm_eps": 0.01,
                "use_parallel_residual": True,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0, partial_rotary_factor=0.5),
            },
        ),
    },
    features=(
        Feature("partial rotation", {"embedding.rope.partial": GONE}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("no output bias", {f"{ATTENTION}.out_bias": True}, shows="weights"),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("norms of the heads", {f"{ATTENTION}.qk_norm": GONE}, case="normed"),
        Feature("weights for each head", {f"{ATTENTION}.qk_norm.over": "head"}, case="normed", shows="weights"),
        Feature("layer norms of the heads", {f"{ATTENTION}.qk_norm.type": "rmsnorm"}, case="normed"),
        Feature("parallel sublayers", {"layer_templates.*.residual": {}}, case="parallel"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="parallel"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="parallel"),
        Feature("eps", {"model.norm_eps": GONE}, case="parallel"),
        Feature("tied head", {"head": UNTIED}, case="parallel", shows="gradients"),
    ),
)
