"""Families with biases on the scores instead of positions: BLOOM, MPT, Falcon-RW."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.layer_normed import FALCON_NAMES, FALCON_SIZES
from tests.families.layouts import stacked, triples
from tests.families.specs import BIASED, TWO, block, document

BLOOM_SIZES: dict[str, Any] = {"vocab_size": 128, "n_layer": 2, "bos_token_id": 1, "eos_token_id": 2}


def bloom(name: str, norm: dict[str, Any], residual: dict[str, Any], head: dict[str, Any], **model: Any) -> Spec:
    """Two layers with biases everywhere and feed-forwards four times as wide."""
    ffn = {"type": "mlp", "activation": "gelu_fast", "bias": True, "mlp_ratio": 4}
    return document(
        name,
        {"block": block(BIASED, ffn, {"type": "layernorm", **norm}, residual)},
        TWO,
        model=model,
        embedding={"positional": "alibi", "norm": {"type": "layernorm", **norm}},
        head=head,
    )


BLOOM = Family(
    name="bloom",
    config="BloomConfig",
    model="BloomForCausalLM",
    rounding="the library rounds each key's own position times the slope, and one sum instead of scores and bias",
    cases={
        "base": Case(bloom("bloom_tiny", {}, {}, {}, n_kv_heads=4), {**BLOOM_SIZES, "hidden_size": 64, "n_head": 4}),
        # six heads: no power of two, so two slopes come from the halved sequence
        "behind the norm": Case(
            bloom("bloom_behind", {"eps": 0.01}, {"skip": "normed"}, UNTIED, d_model=96, n_heads=6, n_kv_heads=6),
            {
                **BLOOM_SIZES,
                "hidden_size": 96,
                "n_head": 6,
                "layer_norm_epsilon": 0.01,
                "apply_residual_connection_post_layernorm": True,
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=(
        Rename(r"transformer\.word_embeddings\.weight", ("model.embed_tokens.weight",)),
        Rename(r"transformer\.word_embeddings_layernorm\.(\w+)", (r"model.embed_norm.\1",)),
        Rename(r"transformer\.ln_f\.(\w+)", (r"model.norm.\1",)),
        Rename(
            r"transformer\.h\.(\d+)\.self_attention\.query_key_value\.(\w+)",
            tuple(rf"model.layers.\1.self_attn.{part}_proj.\2" for part in "qkv"),
            triples,
        ),
        Rename(r"transformer\.h\.(\d+)\.self_attention\.dense\.(\w+)", (r"model.layers.\1.self_attn.o_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.mlp\.dense_h_to_4h\.(\w+)", (r"model.layers.\1.mlp.up_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.mlp\.dense_4h_to_h\.(\w+)", (r"model.layers.\1.mlp.down_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.(\w+_layernorm)\.(\w+)", (r"model.layers.\1.\2.\3",)),
    ),
    features=(
        Feature("biases on the scores", {"embedding.positional": "none"}),
        Feature("norm on the embedding", {"embedding.norm": GONE}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("activation", {f"{FFN}.activation": "relu"}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("residual from behind the norm", {"layer_templates.*.residual": {}}, case="behind the norm"),
        Feature("eps", {f"{NORM}.eps": GONE}, case="behind the norm"),
        Feature("eps of the embedding's norm", {"embedding.norm.eps": GONE}, case="behind the norm"),
        Feature("width of the feed-forward", {f"{FFN}.mlp_ratio": 2}, shows="weights"),
    ),
)

MPT_SIZES: dict[str, Any] = {"vocab_size": 128, "d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 64}
MPT_FFN = {"type": "mlp", "activation": "gelu", "mlp_ratio": 4}
MPT_NORM = {"type": "layernorm", "bias": False}
MPT = Family(
    name="mpt",
    config="MptConfig",
    model="MptForCausalLM",
    rounding="the library keeps the biases, and the scores from there on, in float32",
    cases={
        "base": Case(
            document(
                "mpt_tiny",
                {"block": block({}, MPT_FFN, MPT_NORM)},
                TWO,
                model={"n_kv_heads": 4},
                embedding={"positional": "alibi"},
            ),
            MPT_SIZES,
        ),
        "scaled": Case(
            document(
                "mpt_scaled",
                {"block": block({"scale": 0.125, "clip_qkv": 0.5}, MPT_FFN, MPT_NORM)},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"positional": "alibi"},
                head=UNTIED,
            ),
            {
                **MPT_SIZES,
                "layer_norm_epsilon": 0.01,
                "attn_config": {"softmax_scale": 0.125, "clip_qkv": 0.5},
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=(
        Rename(r"transformer\.wte\.weight", ("model.embed_tokens.weight",)),
        Rename(r"transformer\.norm_f\.weight", ("model.norm.weight",)),
        Rename(r"transformer\.blocks\.(\d+)\.norm_1\.weight", (r"model.layers.\1.input_layernorm.weight",)),
        Rename(r"transformer\.blocks\.(\d+)\.norm_2\.weight", (r"model.layers.\1.post_attention_layernorm.weight",)),
        Rename(
            r"transformer\.blocks\.(\d+)\.attn\.Wqkv\.weight",
            tuple(rf"model.layers.\1.self_attn.{part}_proj.weight" for part in "qkv"),
            stacked,
        ),
        Rename(r"transformer\.blocks\.(\d+)\.attn\.out_proj\.weight", (r"model.layers.\1.self_attn.o_proj.weight",)),
        Rename(r"transformer\.blocks\.(\d+)\.ffn\.(\w+)_proj\.weight", (r"model.layers.\1.mlp.\2_proj.weight",)),
    ),
    features=(
        Feature("biases on the scores", {"embedding.positional": "none"}),
        Feature("norms without biases", {f"{NORM}.bias": True}, shows="weights"),
        Feature("layer norm", {NORM: {"type": "rmsnorm"}}),
        Feature("exact gelu", {f"{FFN}.activation": "relu"}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("clamped queries, keys and values", {f"{ATTENTION}.clip_qkv": GONE}, case="scaled"),
        Feature("scale of the scores", {f"{ATTENTION}.scale": GONE}, case="scaled"),
        Feature("width of the feed-forward", {f"{FFN}.mlp_ratio": 2}, shows="weights"),
        Feature("eps", {"model.norm_eps": GONE}, case="scaled"),
    ),
)

RW_SIZES = {**FALCON_SIZES, "alibi": True, "bias": True, "multi_query": False, "parallel_attn": False}
RW_EMBEDDING = {"positional": "alibi", "alibi": {"scaled": True}}
RW_FFN = {"type": "mlp", "activation": "gelu", "bias": True}
FALCON_RW = Family(
    name="falcon_rw",
    config="FalconConfig",
    model="FalconForCausalLM",
    # The library's eager attention adds the biases twice
    attention="sdpa",
    rounding="the library adds biases to products after rounding, and rounds slopes and biases to bfloat16",
    cases={
        "base": Case(
            document(
                "falcon_rw",
                {"block": block(BIASED, RW_FFN, {"type": "layernorm"})},
                TWO,
                model={"n_kv_heads": 4},
                embedding=RW_EMBEDDING,
            ),
            RW_SIZES,
        ),
        "one key/value head": Case(
            document(
                "falcon_rw_one",
                {"block": block({}, {**RW_FFN, "activation": "relu", "bias": False}, {"type": "layernorm"})},
                TWO,
                model={"n_kv_heads": 1, "norm_eps": 0.01},
                embedding=RW_EMBEDDING,
                head=UNTIED,
            ),
            {
                **RW_SIZES,
                "bias": False,
                "multi_query": True,
                "activation": "relu",
                "layer_norm_epsilon": 0.01,
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=FALCON_NAMES,
    features=(
        Feature("biases on the scores", {"embedding.positional": "none", "embedding.alibi": GONE}),
        Feature("biases scaled as the scores", {"embedding.alibi.scaled": False}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="one key/value head"),
        Feature("eps", {"model.norm_eps": GONE}, case="one key/value head"),
    ),
)
