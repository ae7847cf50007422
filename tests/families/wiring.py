"""Families of norms, residual wiring and heads: OLMo, Nemotron, ModernBERT, GPT, MiniMax-01."""

from __future__ import annotations

from typing import Any

from tests.families.dense import GPT2
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.layouts import halves, triples
from tests.families.specs import LIBRARY, block, default_rope, document

ATTENTION = "layer_templates.*.mixer.attention"
FFN = "layer_templates.*.ffn"
NORM = "layer_templates.*.norm"
RESIDUAL = "layer_templates.*.residual"
UNTIED = {"tie_weights": False}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}

OLMO_ROPE = {"rope": {"precision": "float32"}}
OLMO_NORM = {"type": "layernorm", "weight": False}
OLMO = Family(
    name="olmo",
    config="OlmoConfig",
    model="OlmoForCausalLM",
    cases={
        "base": Case(document("olmo_tiny", {"block": block(OLMO_ROPE, norm=OLMO_NORM)}, head=UNTIED), LIBRARY),
        "biased": Case(
            document(
                "olmo_biased",
                {
                    "block": block(
                        {**OLMO_ROPE, "qkv_bias": True, "out_bias": True, "clip_qkv": 0.4},
                        {"activation": "geglu"},
                        OLMO_NORM,
                    )
                },
                model={"n_kv_heads": 4},
            ),
            {
                **LIBRARY,
                "num_key_value_heads": 4,
                "attention_bias": True,
                "clip_qkv": 0.4,
                "hidden_act": "gelu",
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("layer norm", {f"{NORM}.type": GONE}),
        Feature("norms without weights", {f"{NORM}.weight": GONE}, shows="weights"),
        Feature("rotation in float32", {f"{ATTENTION}.rope": GONE}, shows="bfloat16"),
        Feature("clipped projections", {f"{ATTENTION}.clip_qkv": GONE}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
    ),
)

NEMOTRON_FFN = {"type": "mlp", "activation": "relu2"}
NEMOTRON_NORM = {"type": "layernorm", "unit_offset": True}
NEMOTRON = Family(
    name="nemotron",
    config="NemotronConfig",
    model="NemotronForCausalLM",
    cases={
        "base": Case(
            document(
                "nemotron_tiny",
                {"block": block({"rope": {"partial": 0.5}}, NEMOTRON_FFN, NEMOTRON_NORM)},
                head=UNTIED,
            ),
            LIBRARY,
        ),
        "biased": Case(
            document(
                "nemotron_biased",
                {
                    "block": block(
                        {"rope": {"partial": 0.25}, "qkv_bias": True, "out_bias": True},
                        {"type": "mlp", "activation": "relu", "bias": True},
                        {**NEMOTRON_NORM, "eps": 0.01},
                    )
                },
                model={"n_kv_heads": 1, "head_dim": 32},
            ),
            {
                **LIBRARY,
                "num_key_value_heads": 1,
                "head_dim": 32,
                "hidden_act": "relu",
                "attention_bias": True,
                "mlp_bias": True,
                "norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {**ROPE, "partial_rotary_factor": 0.25},
            },
        ),
    },
    features=(
        Feature("norm weights as differences from 1", {f"{NORM}.unit_offset": GONE}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("partial rotation", {f"{ATTENTION}.rope": GONE}),
        Feature("activation", {f"{FFN}.activation": GONE}),
        Feature("eps", {f"{NORM}.eps": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
    ),
)

MODERN_NORM = {"type": "layernorm", "bias": False}
MODERN_ROPES = {
    "rope_parameters": {
        "full_attention": default_rope(160000.0),
        "sliding_attention": default_rope(10000.0),
    }
}
MODERN_TYPES = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]


def modern(name: str, attention: dict[str, Any], ffn: dict[str, Any], norm: dict[str, Any], **rest: Any) -> Spec:
    """Global layers around local ones; the first layer's mixer reads the normed embedding as it is."""
    wide = {"rope": {"theta": 160000.0, "precision": "float32_rotation"}, **attention}
    near = {"rope": {"theta": 10000.0, "precision": "float32_rotation"}, "window": 4, **attention}
    templates = {
        "first": block(wide, ffn, {**norm, "mixer": {"type": "none"}}),
        "local": block(near, ffn, norm),
        "global": block(wide, ffn, norm),
    }
    schedule = [{"template": "first"}, {"template": "local", "repeat": 2}, {"template": "global"}]
    return document(name, templates, schedule, model={"n_kv_heads": 4}, **rest)


MODERN_SIZES = {name: value for name, value in LIBRARY.items() if "key_value" not in name}
MODERNBERT_DECODER = Family(
    name="modernbert_decoder",
    config="ModernBertDecoderConfig",
    model="ModernBertDecoderForCausalLM",
    cases={
        "base": Case(
            modern(
                "modern_tiny",
                {},
                {"activation": "geglu"},
                MODERN_NORM,
                embedding={"norm": MODERN_NORM},
                head={"bias": True, "transform": {"activation": "gelu", "norm": MODERN_NORM}},
            ),
            {**MODERN_SIZES, **MODERN_ROPES, "layer_types": MODERN_TYPES, "local_attention": 8},
        ),
        "biased": Case(
            modern(
                "modern_biased",
                {"qkv_bias": True, "out_bias": True},
                {"activation": "swiglu", "bias": True},
                {"type": "layernorm", "eps": 0.01},
                embedding={"norm": {"type": "layernorm", "eps": 0.01}},
                head={
                    "transform": {"activation": "relu", "bias": True, "norm": {"type": "layernorm", "eps": 0.01}},
                    **UNTIED,
                },
            ),
            {
                **MODERN_SIZES,
                **MODERN_ROPES,
                "layer_types": MODERN_TYPES,
                "local_attention": 8,
                "attention_bias": True,
                "mlp_bias": True,
                "norm_bias": True,
                "norm_eps": 0.01,
                "hidden_activation": "silu",
                "decoder_bias": False,
                "classifier_bias": True,
                "classifier_activation": "relu",
                "tie_word_embeddings": False,
            },
        ),
    },
    renames=(
        Rename(r"model\.embeddings\.tok_embeddings\.weight", ("model.embed_tokens.weight",)),
        Rename(r"model\.embeddings\.norm\.(\w+)", (r"model.embed_norm.\1",)),
        Rename(r"model\.final_norm\.(\w+)", (r"model.norm.\1",)),
        Rename(r"(.*)\.attn_norm\.(\w+)", (r"\1.input_layernorm.\2",)),
        Rename(r"(.*)\.mlp_norm\.(\w+)", (r"\1.post_attention_layernorm.\2",)),
        Rename(r"(.*)\.attn\.([qkv])_proj\.(\w+)", (r"\1.self_attn.\2_proj.\3",)),
        Rename(r"(.*)\.attn\.Wo\.(\w+)", (r"\1.self_attn.o_proj.\2",)),
        Rename(r"(.*)\.mlp\.Wi\.(\w+)", (r"\1.mlp.gate_proj.\2", r"\1.mlp.up_proj.\2"), halves),
        Rename(r"(.*)\.mlp\.Wo\.(\w+)", (r"\1.mlp.down_proj.\2",)),
        Rename(r"lm_head\.(.*)", (r"head.\1",)),
        Rename(r"decoder\.(\w+)", (r"lm_head.\1",)),
    ),
    features=(
        Feature("norm on the embedding", {"embedding.norm": GONE}),
        Feature("no norm before the first mixer", {"layer_templates.first.norm.mixer": GONE}, shows="weights"),
        Feature("layers before the vocabulary", {"head.transform": GONE}),
        Feature("activation before the vocabulary", {"head.transform.activation": "relu"}),
        Feature("norm before the vocabulary", {"head.transform.norm": GONE}),
        Feature("bias before the vocabulary", {"head.transform.bias": GONE}, case="biased"),
        Feature("eps before the vocabulary", {"head.transform.norm.eps": GONE}, case="biased"),
        Feature("eps on the embedding", {"embedding.norm.eps": GONE}, case="biased"),
        Feature("head bias", {"head.bias": GONE}),
        Feature("window", {"layer_templates.local.mixer.attention.window": GONE}),
        Feature("theta of global layers", {"layer_templates.global.mixer.attention.rope.theta": 10000.0}),
        Feature("rotation in float32", {"layer_templates.*.mixer.attention.rope.precision": GONE}, shows="bfloat16"),
        Feature("biases of norms", {"layer_templates.local.norm.bias": False}, case="biased"),
        Feature("theta of these layers", {f"{ATTENTION}.rope.theta": GONE}),
        Feature("activation", {f"{FFN}.activation": "relu"}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("eps", {f"{NORM}.eps": GONE}, case="biased"),
    ),
)

GPT_SIZES = {"vocab_size": 128, "n_positions": 128, "n_embd": 64, "n_layer": 2, "n_head": 4}
OPENAI_GPT = Family(
    name="openai_gpt",
    config="OpenAIGPTConfig",
    model="OpenAIGPTLMHeadModel",
    cached=False,
    cases={
        name: Case(
            document(
                f"openai_{name}",
                {
                    "block": block(
                        {"qkv_bias": True, "out_bias": True},
                        {"type": "mlp", "activation": activation, "bias": True, "mlp_ratio": 4},
                        {"type": "layernorm", "position": "post", **norm},
                    )
                },
                [{"template": "block", "repeat": 2}],
                model={"n_kv_heads": 4},
                embedding={"positional": "learned"},
            ),
            {**GPT_SIZES, **original},
        )
        for name, activation, norm, original in (
            ("base", "gelu_new", {}, {}),
            ("relu", "relu", {"eps": 0.01}, {"afn": "relu", "layer_norm_epsilon": 0.01}),
        )
    },
    renames=(
        Rename(r"transformer\.tokens_embed\.weight", ("model.embed_tokens.weight",)),
        Rename(r"transformer\.positions_embed\.weight", ("model.embed_positions.weight",)),
        Rename(r"transformer\.h\.(\d+)\.ln_1\.(\w+)", (r"model.layers.\1.post_attention_layernorm.\2",)),
        Rename(r"transformer\.h\.(\d+)\.ln_2\.(\w+)", (r"model.layers.\1.post_feedforward_layernorm.\2",)),
        *(rename for rename in GPT2.renames if ".attn" in rename.pattern or ".mlp" in rename.pattern),
    ),
    features=(
        Feature("norms after the additions", {f"{NORM}.position": "output"}),
        Feature("no norm before the head", {"head": {"norm": "last"}}, shows="weights"),
        Feature("learned positions", {"embedding.positional": "none"}),
        Feature("activation", {f"{FFN}.activation": "gelu"}),
        Feature("eps", {f"{NORM}.eps": GONE}, case="relu"),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
    ),
)

ROUTED = {"type": "moe", "moe": {"experts": 4, "top_k": 2, "normalize": True, "load_balance_coef": 0.001}}
MINIMAX_FULL = Family(
    name="minimax_full_attention",
    config="MiniMaxConfig",
    model="MiniMaxForCausalLM",
    losses={"output_router_logits": True},
    cases={
        name: Case(
            document(
                f"minimax_{name}",
                {"block": block({}, ROUTED, {"eps": 1e-5}, residual)},
                head=UNTIED,
                embedding={"rope_theta": 1000000.0},
            ),
            {
                **LIBRARY,
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
                "layer_types": ["full_attention"] * 4,
                **factors,
            },
        )
        for name, residual, factors in (
            (
                "base",
                {"skip": "normed", "skip_scaling": {"mixer": 1.5, "ffn": 0.7}, "scaling": {"mixer": 0.6, "ffn": 1.3}},
                {
                    "full_attn_alpha_factor": 1.5,
                    "full_attn_beta_factor": 0.6,
                    "mlp_alpha_factor": 0.7,
                    "mlp_beta_factor": 1.3,
                },
            ),
            ("plain", {"skip": "normed"}, {}),
        )
    },
    features=(
        Feature("skip behind the norm", {f"{RESIDUAL}.skip": GONE}),
        Feature("factors on the skip", {f"{RESIDUAL}.skip_scaling": GONE}),
        Feature("factor on the mixer's skip", {f"{RESIDUAL}.skip_scaling.mixer": 0.7}),
        Feature("factors on the sublayers", {f"{RESIDUAL}.scaling": GONE}),
        Feature("factor on the feed-forward", {f"{RESIDUAL}.scaling.ffn": 0.6}),
        Feature("skip behind the norm, without factors", {f"{RESIDUAL}.skip": GONE}, case="plain"),
        Feature("experts a token", {f"{FFN}.moe.top_k": 1}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("weights divided by their sum", {f"{FFN}.moe.normalize": False}),
        Feature("eps", {f"{NORM}.eps": GONE}),
        Feature("load-balancing loss", {f"{FFN}.moe.load_balance_coef": 0.0}, shows="loss"),
    ),
)

OTHER_WORDS = ("intermediate_size", "num_key_value_heads")
JAPANESE_SIZES = {name: value for name, value in LIBRARY.items() if name not in OTHER_WORDS}
JAPANESE = Family(
    name="gpt_neox_japanese",
    config="GPTNeoXJapaneseConfig",
    model="GPTNeoXJapaneseForCausalLM",
    rounding="the library adds the last attention's bias after rounding, and scales scores within the product",
    cases={
        name: Case(
            document(
                f"japanese_{name}",
                {"block": block({"rope": rope}, {"type": "mlp", "activation": activation, "mlp_ratio": 2}, norm)},
                [{"template": "block", "repeat": 4, "override_at": [{"layers": 3, "attention": {"out_bias": True}}]}],
                model={"n_kv_heads": 4},
            ),
            {
                **{
                    key: value
                    for key, value in LIBRARY.items()
                    if key not in ("intermediate_size", "num_key_value_heads")
                },
                "intermediate_multiple_size": 2,
                "attention_dropout": 0.0,
                **original,
            },
        )
        for name, rope, activation, norm, original in (
            ("base", {"theta": 10000.0}, "gelu", {"type": "layernorm"}, {}),
            (
                "partial",
                {"theta": 500.0, "partial": 0.5},
                "relu",
                {"type": "layernorm", "eps": 0.01},
                {
                    "rope_parameters": default_rope(500.0, partial_rotary_factor=0.5),
                    "hidden_act": "relu",
                    "layer_norm_eps": 0.01,
                },
            ),
        )
    },
    renames=(
        Rename(r"gpt_neox_japanese\.embed_in\.weight", ("model.embed_tokens.weight",)),
        Rename(r"gpt_neox_japanese\.final_layer_norm\.(\w+)", (r"model.norm.\1",)),
        Rename(
            r"gpt_neox_japanese\.(.*)\.attention\.query_key_value\.weight",
            tuple(rf"model.\1.self_attn.{part}_proj.weight" for part in "qkv"),
            triples,
        ),
        Rename(r"gpt_neox_japanese\.(.*)\.attention\.dense\.weight", (r"model.\1.self_attn.o_proj.weight",)),
        Rename(r"gpt_neox_japanese\.(.*)\.attention\.dense_bias", (r"model.\1.self_attn.o_proj.bias",)),
        Rename(r"gpt_neox_japanese\.(.*)\.mlp\.dense_h_to_4h\.weight", (r"model.\1.mlp.up_proj.weight",)),
        Rename(r"gpt_neox_japanese\.(.*)\.mlp\.dense_4h_to_h\.weight", (r"model.\1.mlp.down_proj.weight",)),
        Rename(r"gpt_neox_japanese\.(.*_layernorm)\.(\w+)", (r"model.\1.\2",)),
        Rename(r"embed_out\.weight", ("lm_head.weight",)),
    ),
    features=(
        Feature("bias of the last attention only", {"layer_schedule": [{"template": "block", "repeat": 4}]}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("eps", {f"{NORM}.eps": GONE}, case="partial"),
        Feature("partial rotation", {f"{ATTENTION}.rope.partial": GONE}, case="partial"),
        Feature("theta", {f"{ATTENTION}.rope.theta": 10000.0}, case="partial"),
        Feature("activation", {f"{FFN}.activation": "gelu"}, case="partial"),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
    ),
)
