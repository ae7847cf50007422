"""Families whose projections the library stores fused: Phi-3, GLM, GLM-4."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.layouts import halves, stacked
from tests.families.specs import QKV_BIASED, SHALLOW, TWO, block, default_rope, document

GATE_AND_UP = Rename(r"(.*)\.mlp\.gate_up_proj\.weight", (r"\1.mlp.gate_proj.weight", r"\1.mlp.up_proj.weight"), halves)
QUERY_KEY_VALUE = Rename(
    r"(.*)\.self_attn\.qkv_proj\.weight", tuple(rf"\1.self_attn.{part}_proj.weight" for part in "qkv"), stacked
)


def longrope(pairs: int, length: int) -> dict[str, Any]:
    """Divisors that grow with the pair, for contexts up to `length` and beyond."""
    return {
        "short_factor": [1.0 + 0.2 * pair for pair in range(pairs)],
        "long_factor": [1.0 + 1.5 * pair for pair in range(pairs)],
        "original_max_position_embeddings": length,
    }


PHI3 = Family(
    name="phi3",
    config="Phi3Config",
    model="Phi3ForCausalLM",
    cases={
        "base": Case(
            document(
                "phi3_tiny",
                {"block": block()},
                TWO,
                model={"norm_eps": 1.0e-5},
                embedding={"rope_scaling": {"type": "longrope", **longrope(8, 32)}},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "original_max_position_embeddings": 32,
                "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, **longrope(8, 32)},
            },
        ),
        # twelve of sixteen dimensions rotate, as in Phi-4-mini; the tokens of the tests go beyond the length
        "long": Case(
            document(
                "phi3_long",
                {"block": block()},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 1.0e-5},
                embedding={"rope": {"partial": 0.75, "scaling": {"type": "longrope", **longrope(6, 16)}}},
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "original_max_position_embeddings": 16,
                "tie_word_embeddings": True,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 10000.0,
                    "partial_rotary_factor": 0.75,
                    **longrope(6, 16),
                },
            },
        ),
        "windowed": Case(
            document(
                "phi3_windowed",
                {"block": block({"window": 8}, {"activation": "geglu"})},
                TWO,
                model={"n_kv_heads": 1, "norm_eps": 0.01},
                embedding={"rope_theta": 50000.0},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 1,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "sliding_window": 8,
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    renames=(QUERY_KEY_VALUE, GATE_AND_UP),
    features=(
        Feature("longrope", {"embedding.rope_scaling": GONE}),
        Feature("short factors", {"embedding.rope_scaling.short_factor": [1.0] * 8}),
        Feature("factor on the tables", {"embedding.rope_scaling.attention_factor": 1.0}),
        # the library's cached run changes its factors halfway, so its own two results differ by as much
        Feature("long factors", {"embedding.rope.scaling.long_factor": [1.0] * 6}, case="long", shows="gradients"),
        Feature("partial rotation", {"embedding.rope": GONE}, case="long", shows="gradients"),
        Feature("tied head", {"head": UNTIED}, case="long", shows="gradients"),
        Feature("window", {f"{ATTENTION}.window": GONE}, case="windowed"),
        Feature("width of the window", {f"{ATTENTION}.window": 9}, case="windowed"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="windowed"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="windowed"),
        Feature("eps", {"model.norm_eps": GONE}, case="windowed"),
        Feature("one key/value head", {"model.n_kv_heads": GONE}, case="windowed", shows="weights"),
    ),
)

GLM_EPS = 1.5625e-07
HALF_ROPE = default_rope(10000.0, partial_rotary_factor=0.5)
GLM = Family(
    name="glm",
    config="GlmConfig",
    model="GlmForCausalLM",
    cases={
        "base": Case(
            document(
                "glm_tiny",
                {"block": block(QKV_BIASED)},
                TWO,
                model={"head_dim": 24, "norm_eps": GLM_EPS},
                embedding={"rope": {"interleaved": True, "partial": 0.5}},
                head=UNTIED,
            ),
            {**SHALLOW, "head_dim": 24, "rope_parameters": HALF_ROPE},
        ),
        "unbiased": Case(
            document(
                "glm_unbiased",
                {"block": block(ffn={"activation": "geglu"})},
                TWO,
                model={"n_kv_heads": 1, "norm_eps": 0.01},
                embedding={"rope": {"interleaved": True, "theta": 50000.0}},
            ),
            {
                **SHALLOW,
                "head_dim": 16,
                "num_key_value_heads": 1,
                "attention_bias": False,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0, partial_rotary_factor=1.0),
            },
        ),
    },
    renames=(GATE_AND_UP,),
    features=(
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("partial rotation", {"embedding.rope.partial": GONE}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("no output bias", {f"{ATTENTION}.out_bias": True}, shows="weights"),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("whole heads rotate", {"embedding.rope.partial": 0.5}, case="unbiased"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="unbiased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="unbiased"),
        Feature("eps", {"model.norm_eps": GONE}, case="unbiased"),
        Feature("tied head", {"head": UNTIED}, case="unbiased", shows="gradients"),
    ),
)

SANDWICH = {"position": "sandwich"}
GLM4 = Family(
    name="glm4",
    config="Glm4Config",
    model="Glm4ForCausalLM",
    cases={
        "base": Case(
            document(
                "glm4_tiny",
                {"block": block(QKV_BIASED, norm=SANDWICH)},
                TWO,
                model={"head_dim": 24, "norm_eps": GLM_EPS},
                embedding={"rope": {"interleaved": True, "partial": 0.5}},
                head=UNTIED,
            ),
            {**SHALLOW, "head_dim": 24, "rope_parameters": HALF_ROPE},
        ),
        "unbiased": Case(
            document(
                "glm4_unbiased",
                {"block": block(ffn={"activation": "geglu"}, norm=SANDWICH)},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"interleaved": True, "theta": 50000.0, "partial": 0.25}},
            ),
            {
                **SHALLOW,
                "head_dim": 16,
                "num_key_value_heads": 4,
                "attention_bias": False,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0, partial_rotary_factor=0.25),
            },
        ),
    },
    renames=(
        GATE_AND_UP,
        Rename(r"(.*)\.post_attention_layernorm\.weight", (r"\1.pre_feedforward_layernorm.weight",)),
        Rename(r"(.*)\.post_self_attn_layernorm\.weight", (r"\1.post_attention_layernorm.weight",)),
        Rename(r"(.*)\.post_mlp_layernorm\.weight", (r"\1.post_feedforward_layernorm.weight",)),
    ),
    features=(
        Feature("norms around sublayers", {f"{NORM}.position": "pre"}),
        Feature("norms on the outputs alone", {f"{NORM}.position": "output"}),
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("partial rotation", {"embedding.rope.partial": GONE}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("no output bias", {f"{ATTENTION}.out_bias": True}, shows="weights"),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="unbiased"),
        Feature("share that rotates", {"embedding.rope.partial": 0.5}, case="unbiased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="unbiased"),
        Feature("eps", {"model.norm_eps": GONE}, case="unbiased"),
        Feature("tied head", {"head": UNTIED}, case="unbiased", shows="gradients"),
    ),
)
