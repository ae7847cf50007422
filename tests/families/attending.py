"""Families told apart by their attention: Ministral 3, Hunyuan, GPT-J, GPT-Neo, nanochat."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, LEARNED, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import LIBRARY, block, document

TEMPERATURE = {"scale": 0.1, "length": 4, "rounding": "dtype"}
YARN = {"factor": 4.0, "original_max_position_embeddings": 4, "beta_fast": 32.0, "beta_slow": 1.0}

MINISTRAL3 = Family(
    name="ministral3",
    config="Ministral3Config",
    model="Ministral3ForCausalLM",
    cases={
        "base": Case(
            document(
                "ministral3_tiny",
                {"block": block({"temperature": TEMPERATURE})},
                model={"head_dim": 16},
                embedding={"rope": {"scaling": {"type": "yarn", **YARN, "mscale": 1.0, "mscale_all_dim": 1.0}}},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "head_dim": 16,
                "sliding_window": None,
                "rms_norm_eps": 1e-6,
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 10000.0,
                    "llama_4_scaling_beta": 0.1,
                    "mscale": 1.0,
                    "mscale_all_dim": 1.0,
                    **YARN,
                },
            },
        ),
        "windowed": Case(
            document(
                "ministral3_windowed",
                {"block": block({"window": 8, "temperature": {**TEMPERATURE, "scale": 0.4, "length": 3}})},
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 0.01},
                embedding={
                    "rope": {
                        "theta": 1000000.0,
                        "scaling": {"type": "yarn", **YARN, "original_max_position_embeddings": 3},
                    }
                },
            ),
            {
                **LIBRARY,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "sliding_window": 8,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 1000000.0,
                    "llama_4_scaling_beta": 0.4,
                    **YARN,
                    "original_max_position_embeddings": 3,
                },
            },
        ),
    },
    features=(
        Feature("temperature", {f"{ATTENTION}.temperature": GONE}),
        Feature("length of the temperature", {f"{ATTENTION}.temperature.length": 5}),
        Feature("positions from 0", {f"{ATTENTION}.temperature.form": "shifted_log"}),
        Feature("rounding of the temperature", {f"{ATTENTION}.temperature.rounding": GONE}, shows="bfloat16"),
        Feature("yarn", {"embedding.rope.scaling": GONE}),
        Feature("window", {f"{ATTENTION}.window": GONE}, case="windowed"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="windowed"),
        Feature("growth of the temperature", {f"{ATTENTION}.temperature.scale": 0.1}, case="windowed"),
        Feature("eps", {"model.norm_eps": GONE}, case="windowed"),
    ),
)

AFTER = {"over": "head", "place": "after_rope"}
HUNYUAN_NAMES = (
    Rename(r"(.*)\.self_attn\.query_layernorm\.weight", (r"\1.self_attn.q_norm.weight",)),
    Rename(r"(.*)\.self_attn\.key_layernorm\.weight", (r"\1.self_attn.k_norm.weight",)),
)
HUNYUAN_DENSE = Family(
    name="hunyuan_v1_dense",
    config="HunYuanDenseV1Config",
    model="HunYuanDenseV1ForCausalLM",
    renames=HUNYUAN_NAMES,
    cases={
        "base": Case(
            document(
                "hunyuan_tiny",
                {"block": block({"qk_norm": AFTER})},
                model={"head_dim": 16, "norm_eps": 1.0e-5},
                head=UNTIED,
            ),
            {**LIBRARY, "head_dim": 16, "rms_norm_eps": 1e-5},
        ),
        "stretched": Case(
            document(
                "hunyuan_stretched",
                {"block": block({"qk_norm": AFTER, "qkv_bias": True, "out_bias": True})},
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 0.01},
                # the base times alpha to the power of 24 / 22
                embedding={"rope_theta": 10000.0 * 8.0 ** (24 / 22)},
            ),
            {
                **LIBRARY,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 8.0, "factor": 1.0},
            },
        ),
    },
    features=(
        Feature("norm after the rotation", {f"{ATTENTION}.qk_norm.place": GONE}),
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="stretched"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="stretched"),
        Feature("stretched base", {"embedding.rope_theta": GONE}, case="stretched"),
        Feature("eps", {"model.norm_eps": GONE}, case="stretched"),
    ),
)

GPTJ_BLOCK = block(
    {"rope": {"interleaved": True, "partial": 0.5}, "score_dtype": "float32"},
    {"type": "mlp", "activation": "gelu_new", "bias": True},
    {"type": "layernorm"},
    {"type": "parallel", "sum": "sublayers_first"},
)
GPTJ_SIZES = {"vocab_size": 128, "n_positions": 128, "n_embd": 64, "n_layer": 4, "n_head": 4, "n_inner": 96}
GPTJ = Family(
    name="gptj",
    config="GPTJConfig",
    model="GPTJForCausalLM",
    renames=(
        Rename(r"transformer\.wte\.weight", ("model.embed_tokens.weight",)),
        Rename(r"transformer\.ln_f\.(\w+)", (r"model.norm.\1",)),
        Rename(r"transformer\.h\.(\d+)\.ln_1\.(\w+)", (r"model.layers.\1.input_layernorm.\2",)),
        Rename(r"transformer\.h\.(\d+)\.attn\.([qkv]_proj)\.(\w+)", (r"model.layers.\1.self_attn.\2.\3",)),
        Rename(r"transformer\.h\.(\d+)\.attn\.out_proj\.(\w+)", (r"model.layers.\1.self_attn.o_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.mlp\.fc_in\.(\w+)", (r"model.layers.\1.mlp.up_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.mlp\.fc_out\.(\w+)", (r"model.layers.\1.mlp.down_proj.\2",)),
    ),
    cases={
        "base": Case(
            document(
                "gptj_tiny", {"block": GPTJ_BLOCK}, model={"n_kv_heads": 4}, head={"tie_weights": False, "bias": True}
            ),
            {**GPTJ_SIZES, "rotary_dim": 8},
        ),
        "whole heads": Case(
            document(
                "gptj_whole",
                {
                    "block": block(
                        {"rope": {"interleaved": True}, "score_dtype": "float32"},
                        {"type": "mlp", "activation": "relu", "bias": True, "intermediate_size": 256},
                        {"type": "layernorm", "eps": 0.01},
                        {"type": "parallel", "sum": "sublayers_first"},
                    )
                },
                [{"template": "block", "repeat": 2}],
                model={"n_kv_heads": 4},
                head={"tie_weights": False, "bias": True},
            ),
            {
                **GPTJ_SIZES,
                "n_layer": 2,
                "n_inner": None,
                "rotary_dim": 16,
                "activation_function": "relu",
                "layer_norm_epsilon": 0.01,
            },
        ),
    },
    features=(
        Feature("interleaved rope", {f"{ATTENTION}.rope.interleaved": False}),
        Feature("partial rope", {f"{ATTENTION}.rope.partial": GONE}),
        Feature("scores in float32", {f"{ATTENTION}.score_dtype": GONE}, shows="bfloat16"),
        Feature("parallel sublayers", {"layer_templates.block.residual": GONE}, shows="weights"),
        Feature("order of the sums", {"layer_templates.block.residual.sum": GONE}, shows="bfloat16"),
        Feature("bias of the head", {"head.bias": False}),
        Feature("biases of the feed-forward", {f"{FFN}.bias": False}),
        Feature("activation", {f"{FFN}.activation": "gelu_new"}, case="whole heads"),
        Feature("eps", {f"{NORM}.eps": GONE}, case="whole heads"),
    ),
)


def neo(**attention: Any) -> dict[str, Any]:
    """A block of GPT-Neo: raw scores in float32, a bias after attention alone."""
    return block(
        {"out_bias": True, "scale": 1.0, "score_dtype": "float32", **attention},
        {"type": "mlp", "activation": "gelu_new", "bias": True},
        {"type": "layernorm"},
    )


NEO_SIZES = {
    "vocab_size": 128,
    "max_position_embeddings": 128,
    "hidden_size": 64,
    "num_layers": 4,
    "num_heads": 4,
    "intermediate_size": 96,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 5,
    "attention_dropout": 0.0,
    "embed_dropout": 0.0,
    "resid_dropout": 0.0,
}
GPT_NEO = Family(
    name="gpt_neo",
    config="GPTNeoConfig",
    model="GPTNeoForCausalLM",
    renames=(
        Rename(r"transformer\.wte\.weight", ("model.embed_tokens.weight",)),
        Rename(r"transformer\.wpe\.weight", ("model.embed_positions.weight",)),
        Rename(r"transformer\.ln_f\.(\w+)", (r"model.norm.\1",)),
        Rename(r"transformer\.h\.(\d+)\.ln_1\.(\w+)", (r"model.layers.\1.input_layernorm.\2",)),
        Rename(r"transformer\.h\.(\d+)\.ln_2\.(\w+)", (r"model.layers.\1.post_attention_layernorm.\2",)),
        Rename(r"transformer\.h\.(\d+)\.attn\.attention\.([qkv]_proj)\.(\w+)", (r"model.layers.\1.self_attn.\2.\3",)),
        Rename(r"transformer\.h\.(\d+)\.attn\.attention\.out_proj\.(\w+)", (r"model.layers.\1.self_attn.o_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.mlp\.c_fc\.(\w+)", (r"model.layers.\1.mlp.up_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.mlp\.c_proj\.(\w+)", (r"model.layers.\1.mlp.down_proj.\2",)),
    ),
    cases={
        "base": Case(
            document(
                "gpt_neo_tiny",
                {"global": neo(), "local": neo(window=5)},
                [{"pattern": ["global", "local"], "repeat": 2}],
                model={"n_kv_heads": 4},
                embedding=LEARNED,
            ),
            NEO_SIZES,
        ),
        "global": Case(
            document(
                "gpt_neo_global",
                {"global": neo()},
                [{"template": "global", "repeat": 2}],
                model={"n_kv_heads": 4, "intermediate_size": 256, "norm_eps": 0.01},
                embedding=LEARNED,
            ),
            {
                **NEO_SIZES,
                "num_layers": 2,
                "intermediate_size": None,
                "attention_types": [[["global"], 2]],
                "layer_norm_epsilon": 0.01,
            },
        ),
    },
    features=(
        Feature("raw scores", {f"{ATTENTION}.scale": GONE}),
        Feature("scores in float32", {f"{ATTENTION}.score_dtype": GONE}, shows="bfloat16"),
        Feature("bias after attention", {f"{ATTENTION}.out_bias": False}),
        Feature("window", {"layer_templates.local.mixer.attention.window": 6}),
        Feature("activation", {f"{FFN}.activation": "gelu"}),
        Feature("biases of the feed-forward", {f"{FFN}.bias": False}),
        Feature("learned positions", {"embedding.positional": "none"}),
        Feature("eps", {"model.norm_eps": GONE}, case="global"),
    ),
)

BARE = {"type": "rmsnorm", "weight": False}
NANOCHAT = Family(
    name="nanochat",
    config="NanoChatConfig",
    model="NanoChatForCausalLM",
    renames=(
        Rename(r"(.*)\.mlp\.fc1\.weight", (r"\1.mlp.up_proj.weight",)),
        Rename(r"(.*)\.mlp\.fc2\.weight", (r"\1.mlp.down_proj.weight",)),
    ),
    cases={
        "base": Case(
            document(
                "nanochat_tiny",
                {"block": block({"qk_norm": {**AFTER, "weight": False}}, {"type": "mlp", "activation": "relu2"}, BARE)},
                embedding={"norm": BARE, "rope": {"negated": True}},
                head={"tie_weights": False, "logit_softcap": 15.0},
            ),
            {**LIBRARY, "final_logit_softcapping": 15.0},
        ),
        "biased": Case(
            document(
                "nanochat_biased",
                {
                    "block": block(
                        {"qk_norm": {**AFTER, "weight": False}, "qkv_bias": True, "out_bias": True},
                        {"type": "mlp", "activation": "relu2"},
                        BARE,
                    )
                },
                [{"template": "block", "repeat": 2}],
                model={"n_kv_heads": 1, "norm_eps": 0.01},
                embedding={"norm": BARE, "rope": {"negated": True, "theta": 100000.0}},
                head={"tie_weights": False, "logit_softcap": 3.0},
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 2,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "final_logit_softcapping": 3.0,
                "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
            },
        ),
    },
    features=(
        Feature("rotation the other way", {"embedding.rope.negated": False}),
        Feature("norm after the rotation", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("norms without weights", {f"{NORM}.weight": True}, shows="weights"),
        Feature("norm on the embedding", {"embedding.norm": GONE}),
        Feature("logit softcap", {"head.logit_softcap": GONE}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="biased"),
        Feature("squared relu", {f"{FFN}.activation": "relu"}),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)
