"""Families with layer norms and learned positions: GPT-BigCode, OPT, BioGPT."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, LEARNED, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.layouts import grouped
from tests.families.specs import BIASED, SHALLOW, TWO, block, document

LAYER_NORM = {"type": "layernorm"}


def positioned(
    name: str,
    attention: dict[str, Any],
    ffn: dict[str, Any],
    norm: dict[str, Any],
    *,
    model: dict[str, Any],
    embedding: dict[str, Any],
    head: dict[str, Any],
) -> Spec:
    """Two layers with plain feed-forward networks."""
    return document(
        name,
        {"block": block(attention, {"type": "mlp", **ffn}, {"type": "layernorm", **norm})},
        TWO,
        model={"n_kv_heads": 4, **model},
        embedding={**LEARNED, **embedding},
        head=head,
    )


BIGCODE_SIZES = {"vocab_size": 128, "n_positions": 128, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 96}
GPT_BIGCODE = Family(
    name="gpt_bigcode",
    config="GPTBigCodeConfig",
    model="GPTBigCodeForCausalLM",
    cases={
        "base": Case(
            positioned(
                "bigcode_tiny",
                BIASED,
                {"activation": "gelu_pytorch_tanh", "bias": True},
                {},
                model={"n_kv_heads": 1},
                embedding={},
                head={},
            ),
            {**BIGCODE_SIZES, "bos_token_id": 1, "eos_token_id": 2},
        ),
        "all_heads": Case(
            positioned(
                "bigcode_all_heads",
                {**BIASED, "scale": 1.0},
                {"activation": "relu", "bias": True, "mlp_ratio": 4},
                {"eps": 0.01},
                model={"max_seq_len": 32, "intermediate_size": 96},
                embedding={},
                head=UNTIED,
            ),
            {
                **BIGCODE_SIZES,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "n_positions": 32,
                "n_inner": None,
                "multi_query": False,
                "scale_attn_weights": False,
                "activation_function": "relu",
                "layer_norm_epsilon": 0.01,
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=(
        Rename(r"transformer\.wte\.weight", ("model.embed_tokens.weight",)),
        Rename(r"transformer\.wpe\.weight", ("model.embed_positions.weight",)),
        Rename(r"transformer\.ln_f\.(\w+)", (r"model.norm.\1",)),
        Rename(r"transformer\.h\.(\d+)\.ln_1\.(\w+)", (r"model.layers.\1.input_layernorm.\2",)),
        Rename(r"transformer\.h\.(\d+)\.ln_2\.(\w+)", (r"model.layers.\1.post_attention_layernorm.\2",)),
        Rename(
            r"transformer\.h\.(\d+)\.attn\.c_attn\.(\w+)",
            tuple(rf"model.layers.\1.self_attn.{part}_proj.\2" for part in "qkv"),
            grouped,
        ),
        Rename(r"transformer\.h\.(\d+)\.attn\.c_proj\.(\w+)", (r"model.layers.\1.self_attn.o_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.mlp\.c_fc\.(\w+)", (r"model.layers.\1.mlp.up_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.mlp\.c_proj\.(\w+)", (r"model.layers.\1.mlp.down_proj.\2",)),
    ),
    features=(
        Feature("one key/value head", {"model.n_kv_heads": 2}, shows="weights"),
        Feature("learned positions", {"embedding.positional": "none"}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("activation", {f"{FFN}.activation": GONE}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("scores as they are", {f"{ATTENTION}.scale": GONE}, case="all_heads"),
        Feature("relu", {f"{FFN}.activation": GONE}, case="all_heads"),
        Feature("eps", {f"{NORM}.eps": GONE}, case="all_heads"),
        Feature("width of the feed-forward", {f"{FFN}.mlp_ratio": GONE}, case="all_heads", shows="weights"),
    ),
)


BEFORE = ("input_layernorm", "post_attention_layernorm")
AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")


def shared_names(model: str, norms: tuple[str, str] = BEFORE) -> tuple[Rename, ...]:
    """The names that OPT and BioGPT have in common, under the prefix of either, and ours for a layer's two norms."""
    layer = rf"{model}\.layers\.(\d+)\."
    return (
        Rename(rf"{model}\.embed_(tokens|positions)\.weight", (r"model.embed_\1.weight",)),
        Rename(rf"{layer}self_attn\.([qkv])_proj\.(\w+)", (r"model.layers.\1.self_attn.\2_proj.\3",)),
        Rename(rf"{layer}self_attn\.out_proj\.(\w+)", (r"model.layers.\1.self_attn.o_proj.\2",)),
        Rename(rf"{layer}self_attn_layer_norm\.(\w+)", (rf"model.layers.\1.{norms[0]}.\2",)),
        Rename(rf"{layer}final_layer_norm\.(\w+)", (rf"model.layers.\1.{norms[1]}.\2",)),
        Rename(rf"{layer}fc1\.(\w+)", (r"model.layers.\1.mlp.up_proj.\2",)),
        Rename(rf"{layer}fc2\.(\w+)", (r"model.layers.\1.mlp.down_proj.\2",)),
    )


OPT_SIZES = {name: value for name, value in SHALLOW.items() if "intermediate" not in name and "key_value" not in name}
OPT = Family(
    name="opt",
    config="OPTConfig",
    model="OPTForCausalLM",
    cases={
        # heads of 16 dimensions: the library scales the queries, which rounds as scaled scores do for a power of 2
        "base": Case(
            positioned(
                "opt_tiny",
                BIASED,
                {"activation": "relu", "bias": True},
                {},
                model={},
                embedding={"position_offset": 2},
                head={},
            ),
            {**OPT_SIZES, "ffn_dim": 96, "word_embed_proj_dim": 64},
        ),
        "unbiased": Case(
            positioned(
                "opt_unbiased",
                {},
                {"activation": "gelu"},
                {"weight": False},
                model={"max_seq_len": 32},
                embedding={"position_offset": 2},
                head=UNTIED,
            ),
            {
                **OPT_SIZES,
                "max_position_embeddings": 32,
                "ffn_dim": 96,
                "word_embed_proj_dim": 64,
                "enable_bias": False,
                "layer_norm_elementwise_affine": False,
                "activation_function": "gelu",
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=(
        Rename(r"model\.decoder\.final_layer_norm\.(\w+)", (r"model.norm.\1",)),
        *shared_names(r"model\.decoder"),
    ),
    features=(
        Feature("rows before the first position", {"embedding.position_offset": GONE}, shows="weights"),
        Feature("learned positions", {"embedding": {"positional": "none"}}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("relu", {f"{FFN}.activation": GONE}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("gelu", {f"{FFN}.activation": "relu"}, case="unbiased"),
        Feature("norms without weights", {f"{NORM}.weight": GONE}, case="unbiased", shows="weights"),
    ),
)

OPT_350M = Family(
    name="opt_350m",
    config="OPTConfig",
    model="OPTForCausalLM",
    cases={
        "base": Case(
            positioned(
                "opt_normed_after",
                BIASED,
                {"activation": "relu", "bias": True},
                {"position": "post"},
                model={},
                embedding={"position_offset": 2, "width": 32},
                head={"norm": "none"},
            ),
            {**OPT_SIZES, "ffn_dim": 96, "word_embed_proj_dim": 32, "do_layer_norm_before": False},
        ),
        "untied": Case(
            positioned(
                "opt_untied",
                BIASED,
                {"activation": "relu", "bias": True},
                {"position": "post"},
                model={},
                embedding={"position_offset": 2, "width": 80},
                head={"norm": "none", **UNTIED},
            ),
            {
                **OPT_SIZES,
                "ffn_dim": 96,
                "word_embed_proj_dim": 80,
                "do_layer_norm_before": False,
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=(
        Rename(r"model\.decoder\.project_in\.weight", ("model.project_in.weight",)),
        Rename(r"model\.decoder\.project_out\.weight", ("project_out.weight",)),
        *shared_names(r"model\.decoder", AFTER),
    ),
    features=(
        Feature("norms after the additions", {f"{NORM}.position": "output"}),
        Feature("narrow table", {"embedding.width": GONE}, shows="weights"),
        Feature("no norm before the head", {"head": {"norm": "last"}}, shows="weights"),
    ),
)

BIOGPT_SIZES = {
    **{name: value for name, value in SHALLOW.items() if "key_value" not in name},
    "hidden_size": 48,
    "num_attention_heads": 3,
}
BIOGPT = Family(
    name="biogpt",
    config="BioGptConfig",
    model="BioGptForCausalLM",
    cases={
        # a width of 48: its root is not exact in bfloat16; three heads of 16 dimensions, as in OPT
        "base": Case(
            positioned(
                "biogpt_tiny",
                BIASED,
                {"activation": "gelu", "bias": True},
                {},
                model={"d_model": 48, "n_heads": 3, "n_kv_heads": 3},
                embedding={"position_offset": 2, "scale": 48**0.5},
                head={},
            ),
            BIOGPT_SIZES,
        ),
        "unscaled": Case(
            positioned(
                "biogpt_unscaled",
                BIASED,
                {"activation": "relu", "bias": True},
                {},
                model={"d_model": 48, "n_heads": 3, "n_kv_heads": 3, "max_seq_len": 32},
                embedding={"position_offset": 2},
                head=UNTIED,
            ),
            {
                **BIOGPT_SIZES,
                "max_position_embeddings": 32,
                "hidden_act": "relu",
                "scale_embedding": False,
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=(
        Rename(r"biogpt\.layer_norm\.(\w+)", (r"model.norm.\1",)),
        Rename(r"output_projection\.weight", ("lm_head.weight",)),
        *shared_names("biogpt"),
    ),
    features=(
        Feature("embedding scale", {"embedding.scale": GONE}),
        Feature("embedding scale left unrounded", {"embedding.scale_rounding": "dtype"}, shows="bfloat16"),
        Feature("rows before the first position", {"embedding.position_offset": GONE}, shows="weights"),
        Feature("learned positions", {"embedding": {"positional": "none", "scale": 48**0.5}}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("relu", {f"{FFN}.activation": GONE}, case="unscaled"),
    ),
)
