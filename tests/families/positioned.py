"""Families told apart by their positions: XGLM, Llama 4."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import LIBRARY, block, document

XGLM_BLOCK = block(
    {"qkv_bias": True, "out_bias": True}, {"type": "mlp", "activation": "gelu", "bias": True}, {"type": "layernorm"}
)
SINUSOIDS = {"positional": "sinusoidal", "wavelengths": "spread", "position_offset": 2}
XGLM = Family(
    name="xglm",
    config="XGLMConfig",
    model="XGLMForCausalLM",
    renames=(
        Rename(r"model\.layer_norm\.(\w+)", (r"model.norm.\1",)),
        Rename(r"(.*)\.self_attn_layer_norm\.(\w+)", (r"\1.input_layernorm.\2",)),
        Rename(r"(.*)\.final_layer_norm\.(\w+)", (r"\1.post_attention_layernorm.\2",)),
        Rename(r"(.*)\.self_attn\.out_proj\.(\w+)", (r"\1.self_attn.o_proj.\2",)),
        Rename(r"(.*)\.fc1\.(\w+)", (r"\1.mlp.up_proj.\2",)),
        Rename(r"(.*)\.fc2\.(\w+)", (r"\1.mlp.down_proj.\2",)),
    ),
    cases={
        "base": Case(
            document(
                "xglm_tiny",
                {"block": XGLM_BLOCK},
                model={"n_kv_heads": 4},
                embedding={**SINUSOIDS, "scale": 8.0},
            ),
            {
                "vocab_size": 128,
                "max_position_embeddings": 128,
                "d_model": 64,
                "ffn_dim": 96,
                "num_layers": 4,
                "attention_heads": 4,
                "pad_token_id": 1,
                "bos_token_id": 0,
                "eos_token_id": 2,
                "dropout": 0.0,
                "attention_dropout": 0.0,
            },
        ),
        "unscaled": Case(
            document(
                "xglm_unscaled",
                {
                    "block": block(
                        {"qkv_bias": True, "out_bias": True},
                        {"type": "mlp", "activation": "relu", "bias": True},
                        {"type": "layernorm"},
                    )
                },
                [{"template": "block", "repeat": 2}],
                model={"n_kv_heads": 4},
                embedding=SINUSOIDS,
                head=UNTIED,
            ),
            {
                "vocab_size": 128,
                "max_position_embeddings": 64,
                "d_model": 64,
                "ffn_dim": 96,
                "num_layers": 2,
                "attention_heads": 4,
                "activation_function": "relu",
                "scale_embedding": False,
                "pad_token_id": 1,
                "bos_token_id": 0,
                "eos_token_id": 2,
                "dropout": 0.0,
                "attention_dropout": 0.0,
                "tie_word_embeddings": False,
            },
        ),
    },
    features=(
        Feature("sinusoidal positions", {"embedding": {"positional": "none", "scale": 8.0}}),
        Feature("wavelengths", {"embedding.wavelengths": GONE}),
        Feature("offset of the positions", {"embedding.position_offset": GONE}),
        Feature("embedding scale", {"embedding.scale": GONE}),
        Feature("layer norms", {f"{NORM}.type": GONE}, shows="weights"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("biases of the feed-forward", {f"{FFN}.bias": False}),
        Feature("activation", {f"{FFN}.activation": "gelu"}, case="unscaled"),
        Feature("a table of the head's own", {"head": GONE}, case="unscaled"),
    ),
)


def experts(tensor: Any) -> tuple[Any, ...]:
    """Experts are kept as (experts, inputs, outputs)."""
    return (tensor.transpose(1, 2),)


L2_NORM = {"over": "head", "place": "after_rope", "weight": False}
TEMPERATURE = {"form": "shifted_log", "scale": 0.1, "length": 4}
ROUTED = {
    "type": "moe",
    "moe": {
        "experts": 4,
        "top_k": 1,
        "expert_size": 96,
        "router": "sigmoid",
        "normalize": False,
        "weigh_input": True,
        "weights_dtype": "model",
        "shared_experts": 1,
        "load_balance_coef": 0.0,
    },
}
DENSE = {"intermediate_size": 128}


def chunked(**more: Any) -> dict[str, Any]:
    """Attention within chunks, rotated, then normed."""
    norm = {} if more.pop("plain", False) else {"qk_norm": L2_NORM}
    rope = {"interleaved": True, "precision": "float32"}
    return {"window": 8, "window_mode": "chunked", "rope": rope, **norm, **more}


LLAMA4_SIZES = {
    **LIBRARY,
    "head_dim": 16,
    "intermediate_size_mlp": 128,
    "num_local_experts": 4,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 2,
    "no_rope_layers": [1, 1, 1, 0],
    "attention_chunk_size": 8,
    "floor_scale": 4,
    "attn_scale": 0.1,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
}
LLAMA4 = Family(
    name="llama4_text",
    config="Llama4TextConfig",
    model="Llama4ForCausalLM",
    pads=False,
    renames=(
        Rename(r"(.*)\.feed_forward\.router\.weight", (r"\1.mlp.gate.weight",)),
        Rename(r"(.*)\.feed_forward\.experts\.(\w+)", (r"\1.mlp.experts.\2",), experts),
        Rename(r"(.*)\.feed_forward\.shared_expert\.(\w+)\.weight", (r"\1.mlp.shared_experts.\2.weight",)),
        Rename(r"(.*)\.feed_forward\.(\w+)\.weight", (r"\1.mlp.\2.weight",)),
    ),
    cases={
        "base": Case(
            document(
                "llama4_tiny",
                {
                    "dense": block(chunked(), DENSE),
                    "routed": block(chunked(), ROUTED),
                    "whole": block({"rope": "none", "temperature": TEMPERATURE}, ROUTED),
                },
                [{"pattern": ["dense", "routed", "dense", "whole"]}],
                model={"head_dim": 16, "norm_eps": 1.0e-5},
                embedding={"rope_theta": 500000.0},
                head=UNTIED,
            ),
            LLAMA4_SIZES,
        ),
        "biased": Case(
            document(
                "llama4_biased",
                {
                    "dense": block(chunked(window=5, qkv_bias=True, out_bias=True, plain=True), DENSE),
                    "whole": block({"rope": "none", "qkv_bias": True, "out_bias": True}, DENSE),
                },
                [{"template": "dense", "repeat": 2}, {"template": "whole"}],
                model={"head_dim": 24, "n_kv_heads": 1, "norm_eps": 0.01},
            ),
            {
                **LLAMA4_SIZES,
                "num_hidden_layers": 3,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "use_qk_norm": False,
                "attn_temperature_tuning": False,
                "moe_layers": [],
                "no_rope_layers": [1, 1, 0],
                "attention_chunk_size": 5,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    },
    features=(
        Feature("chunks", {f"{ATTENTION}.window_mode": GONE}),
        Feature(
            "length of the chunks",
            {f"layer_templates.{name}.mixer.attention.window": 9 for name in ("dense", "routed")},
        ),
        Feature("rotation in float32", {f"{ATTENTION}.rope.precision": GONE}, shows="bfloat16"),
        Feature("weights in the model's dtype", {f"{FFN}.moe.weights_dtype": GONE}, shows="bfloat16"),
        Feature("weights left undivided", {f"{FFN}.moe.normalize": True}),
        Feature("load left alone", {f"{FFN}.moe.load_balance_coef": GONE}, shows="gradients"),
        Feature("interleaved rope", {f"{ATTENTION}.rope.interleaved": False}),
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("temperature", {f"{ATTENTION}.temperature": GONE}),
        Feature("positions from 1", {f"{ATTENTION}.temperature.form": "log"}),
        Feature("weights on the inputs", {f"{FFN}.moe.weigh_input": False}),
        Feature("sigmoid scores", {f"{FFN}.moe.router": "softmax"}),
        Feature("one expert a token", {f"{FFN}.moe.top_k": 2}),
        Feature("shared expert", {f"{FFN}.moe.shared_experts": 0}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)
