"""Families with layer norms and rope: StarCoder2, Jais 2, GPT-NeoX, Falcon, Persimmon."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.layouts import grouped
from tests.families.specs import BIASED, SHALLOW, TWO, block, default_rope, document

RESIDUAL = "layer_templates.*.residual"


def normed(
    name: str,
    attention: dict[str, Any],
    ffn: dict[str, Any],
    norm: dict[str, Any] | None = None,
    residual: dict[str, Any] | None = None,
    **rest: Any,
) -> Spec:
    """Two layers with plain feed-forward networks and layer norms."""
    layer = block(attention, {"type": "mlp", **ffn}, {"type": "layernorm", **(norm or {})}, residual)
    return document(name, {"block": layer}, TWO, **rest)


STARCODER2 = Family(
    name="starcoder2",
    config="Starcoder2Config",
    model="Starcoder2ForCausalLM",
    cases={
        "base": Case(
            normed(
                "starcoder2_tiny",
                {**BIASED, "window": 8},
                {"activation": "gelu_pytorch_tanh", "bias": True},
                embedding={"rope_theta": 999999.0},
            ),
            {**SHALLOW, "sliding_window": 8, "rope_parameters": default_rope(999999.0)},
        ),
        "unbiased": Case(
            normed(
                "starcoder2_unbiased",
                {},
                {"activation": "relu"},
                model={"n_kv_heads": 1, "norm_eps": 0.01},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 1,
                "use_bias": False,
                "hidden_act": "relu",
                "norm_epsilon": 0.01,
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=(
        Rename(r"(.*)\.mlp\.c_fc\.(\w+)", (r"\1.mlp.up_proj.\2",)),
        Rename(r"(.*)\.mlp\.c_proj\.(\w+)", (r"\1.mlp.down_proj.\2",)),
    ),
    features=(
        Feature("window", {f"{ATTENTION}.window": GONE}),
        Feature("width of the window", {f"{ATTENTION}.window": 9}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("activation", {f"{FFN}.activation": GONE}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("no window", {f"{ATTENTION}.window": 8}, case="unbiased"),
        Feature("eps", {"model.norm_eps": GONE}, case="unbiased"),
        Feature("one key/value head", {"model.n_kv_heads": GONE}, case="unbiased", shows="weights"),
    ),
)

JAIS2 = Family(
    name="jais2",
    config="Jais2Config",
    model="Jais2ForCausalLM",
    cases={
        "base": Case(
            normed(
                "jais2_tiny",
                BIASED,
                {"activation": "relu2", "bias": True},
                model={"head_dim": 24},
                embedding={"rope_theta": 500000.0},
                head=UNTIED,
            ),
            {**SHALLOW, "head_dim": 24, "rope_parameters": default_rope(500000.0)},
        ),
        "unbiased": Case(
            normed("jais2_unbiased", {}, {"activation": "gelu"}, model={"n_kv_heads": 4, "norm_eps": 0.01}),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "attention_bias": False,
                "mlp_bias": False,
                "hidden_act": "gelu",
                "layer_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("squared relu", {f"{FFN}.activation": "relu"}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("gelu", {f"{FFN}.activation": "relu2"}, case="unbiased"),
        Feature("eps", {"model.norm_eps": GONE}, case="unbiased"),
        Feature("tied head", {"head": UNTIED}, case="unbiased", shows="gradients"),
    ),
)

NEOX_SIZES = {name: value for name, value in SHALLOW.items() if "key_value" not in name}
GPT_NEOX = Family(
    name="gpt_neox",
    config="GPTNeoXConfig",
    model="GPTNeoXForCausalLM",
    cases={
        "base": Case(
            normed(
                "neox_tiny",
                BIASED,
                {"activation": "gelu", "bias": True},
                residual={"type": "parallel", "shared_norm": False, "sum": "sublayers_first"},
                model={"n_kv_heads": 4},
                embedding={"rope": {"partial": 0.25}},
                head=UNTIED,
            ),
            {**NEOX_SIZES, "rope_parameters": default_rope(10000.0, partial_rotary_factor=0.25)},
        ),
        "sequential": Case(
            normed(
                "neox_sequential",
                {},
                {"activation": "gelu_fast", "bias": True},
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"theta": 50000.0}},
            ),
            {
                **NEOX_SIZES,
                "attention_bias": False,
                "hidden_act": "gelu_fast",
                "layer_norm_eps": 0.01,
                "use_parallel_residual": False,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0, partial_rotary_factor=1.0),
            },
        ),
    },
    renames=(
        Rename(r"gpt_neox\.embed_in\.weight", ("model.embed_tokens.weight",)),
        Rename(r"gpt_neox\.final_layer_norm\.(\w+)", (r"model.norm.\1",)),
        Rename(
            r"gpt_neox\.layers\.(\d+)\.attention\.query_key_value\.(\w+)",
            tuple(rf"model.layers.\1.self_attn.{part}_proj.\2" for part in "qkv"),
            grouped,
        ),
        Rename(r"gpt_neox\.layers\.(\d+)\.attention\.dense\.(\w+)", (r"model.layers.\1.self_attn.o_proj.\2",)),
        Rename(r"gpt_neox\.layers\.(\d+)\.mlp\.dense_h_to_4h\.(\w+)", (r"model.layers.\1.mlp.up_proj.\2",)),
        Rename(r"gpt_neox\.layers\.(\d+)\.mlp\.dense_4h_to_h\.(\w+)", (r"model.layers.\1.mlp.down_proj.\2",)),
        Rename(r"gpt_neox\.layers\.(\d+)\.(\w+_layernorm)\.(\w+)", (r"model.layers.\1.\2.\3",)),
    ),
    features=(
        Feature("partial rotation", {"embedding.rope.partial": GONE}),
        Feature("parallel sublayers", {RESIDUAL: {"type": "sequential"}}),
        Feature("a norm for each sublayer", {f"{RESIDUAL}.shared_norm": True}),
        Feature("order of additions", {f"{RESIDUAL}.sum": GONE}, shows="bfloat16"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("sublayers in turn", {RESIDUAL: {"type": "parallel", "shared_norm": False}}, case="sequential"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="sequential"),
        Feature("activation", {f"{FFN}.activation": "relu"}, case="sequential"),
        Feature("eps", {"model.norm_eps": GONE}, case="sequential"),
        Feature("tied head", {"head": UNTIED}, case="sequential", shows="gradients"),
    ),
)

FALCON_SIZES = {
    **{name: value for name, value in SHALLOW.items() if name != "intermediate_size" and "key_value" not in name},
    "ffn_hidden_size": 96,
}
FALCON_NAMES = (
    Rename(r"transformer\.word_embeddings\.weight", ("model.embed_tokens.weight",)),
    Rename(r"transformer\.ln_f\.(\w+)", (r"model.norm.\1",)),
    Rename(
        r"transformer\.h\.(\d+)\.self_attention\.query_key_value\.(\w+)",
        tuple(rf"model.layers.\1.self_attn.{part}_proj.\2" for part in "qkv"),
        grouped,
    ),
    Rename(r"transformer\.h\.(\d+)\.self_attention\.dense\.(\w+)", (r"model.layers.\1.self_attn.o_proj.\2",)),
    Rename(r"transformer\.h\.(\d+)\.mlp\.dense_h_to_4h\.(\w+)", (r"model.layers.\1.mlp.up_proj.\2",)),
    Rename(r"transformer\.h\.(\d+)\.mlp\.dense_4h_to_h\.(\w+)", (r"model.layers.\1.mlp.down_proj.\2",)),
    Rename(r"transformer\.h\.(\d+)\.ln_attn\.(\w+)", (r"model.layers.\1.input_layernorm.\2",)),
    Rename(r"transformer\.h\.(\d+)\.ln_mlp\.(\w+)", (r"model.layers.\1.post_attention_layernorm.\2",)),
    Rename(r"transformer\.h\.(\d+)\.(\w+_layernorm)\.(\w+)", (r"model.layers.\1.\2.\3",)),
)
FALCON = Family(
    name="falcon",
    config="FalconConfig",
    model="FalconForCausalLM",
    cases={
        "base": Case(
            normed(
                "falcon_tiny",
                {},
                {"activation": "gelu"},
                residual={"type": "parallel", "shared_norm": False, "sum": "sublayers_first"},
            ),
            {**FALCON_SIZES, "new_decoder_architecture": True, "num_kv_heads": 2},
        ),
        "one_norm": Case(
            normed(
                "falcon_one_norm",
                {},
                {"activation": "relu"},
                residual={"type": "parallel", "sum": "sublayers_first"},
                model={"n_kv_heads": 1, "norm_eps": 0.01},
                embedding={"rope_theta": 50000.0},
                head=UNTIED,
            ),
            {
                **FALCON_SIZES,
                "activation": "relu",
                "layer_norm_epsilon": 0.01,
                "tie_word_embeddings": False,
                "rope_parameters": default_rope(50000.0),
            },
        ),
        "sequential": Case(
            normed("falcon_sequential", {}, {"activation": "gelu"}, model={"n_kv_heads": 4}),
            {**FALCON_SIZES, "multi_query": False, "parallel_attn": False},
        ),
    },
    renames=FALCON_NAMES,
    features=(
        Feature("parallel sublayers", {RESIDUAL: {"type": "sequential"}}),
        Feature("a norm for each sublayer", {f"{RESIDUAL}.shared_norm": True}),
        Feature("order of additions", {f"{RESIDUAL}.sum": GONE}, shows="bfloat16"),
        Feature("grouped heads", {"model.n_kv_heads": GONE}, shows="weights"),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("rope", {"embedding.positional": "none"}),
        Feature("one norm for both sublayers", {f"{RESIDUAL}.shared_norm": False}, case="one_norm", shows="weights"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="one_norm"),
        Feature("relu", {f"{FFN}.activation": GONE}, case="one_norm"),
        Feature("eps", {"model.norm_eps": GONE}, case="one_norm"),
        Feature("sublayers in turn", {RESIDUAL: {"type": "parallel", "shared_norm": False}}, case="sequential"),
    ),
)

FALCON_BIASED = Family(
    name="falcon_biased",
    config="FalconConfig",
    model="FalconForCausalLM",
    rounding="the library rounds a product before it adds the bias",
    cases={
        "base": Case(
            normed(
                "falcon_biased",
                BIASED,
                {"activation": "gelu", "bias": True},
                residual={"type": "parallel", "sum": "sublayers_first"},
            ),
            {
                **FALCON_SIZES,
                "bias": True,
                "new_decoder_architecture": True,
                "num_kv_heads": 2,
                "num_ln_in_parallel_attn": 1,
            },
        ),
    },
    renames=FALCON_NAMES,
    features=(
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("one norm for both sublayers", {f"{RESIDUAL}.shared_norm": False}, shows="weights"),
        Feature("activation", {f"{FFN}.activation": "relu"}),
        Feature("order of additions", {f"{RESIDUAL}.sum": GONE}, shows="bfloat16"),
    ),
)

PERSIMMON = Family(
    name="persimmon",
    config="PersimmonConfig",
    model="PersimmonForCausalLM",
    cases={
        "base": Case(
            normed(
                "persimmon_tiny",
                {**BIASED, "qk_norm": {"type": "layernorm", "bias": True}},
                {"activation": "relu2", "bias": True},
                model={"n_kv_heads": 4},
                embedding={"rope": {"partial": 0.5, "theta": 25000.0}},
                head=UNTIED,
            ),
            {**NEOX_SIZES, "rope_parameters": default_rope(25000.0, partial_rotary_factor=0.5)},
        ),
        "unnormed": Case(
            normed(
                "persimmon_unnormed",
                BIASED,
                {"activation": "gelu", "bias": True},
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"partial": 0.25}},
            ),
            {
                **NEOX_SIZES,
                "hidden_act": "gelu",
                "layer_norm_eps": 0.01,
                "qk_layernorm": False,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(10000.0, partial_rotary_factor=0.25),
            },
        ),
    },
    renames=(
        Rename(r"model\.final_layernorm\.(\w+)", (r"model.norm.\1",)),
        Rename(
            r"(.*)\.self_attn\.query_key_value\.(\w+)",
            tuple(rf"\1.self_attn.{part}_proj.\2" for part in "qkv"),
            grouped,
        ),
        Rename(r"(.*)\.self_attn\.dense\.(\w+)", (r"\1.self_attn.o_proj.\2",)),
        Rename(r"(.*)\.self_attn\.([qk])_layernorm\.(\w+)", (r"\1.self_attn.\2_norm.\3",)),
        Rename(r"(.*)\.mlp\.dense_h_to_4h\.(\w+)", (r"\1.mlp.up_proj.\2",)),
        Rename(r"(.*)\.mlp\.dense_4h_to_h\.(\w+)", (r"\1.mlp.down_proj.\2",)),
    ),
    features=(
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("biases of query and key norm", {f"{ATTENTION}.qk_norm": {"type": "layernorm"}}),
        Feature("squared relu", {f"{FFN}.activation": "relu"}),
        Feature("partial rotation", {"embedding.rope.partial": GONE}),
        Feature("rope theta", {"embedding.rope.theta": GONE}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("eps", {"model.norm_eps": GONE}, case="unnormed"),
        Feature("tied head", {"head": UNTIED}, case="unnormed", shows="gradients"),
    ),
)
