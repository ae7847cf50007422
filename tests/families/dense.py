"""Dense families with one kind of layer: GPT-2, Llama, Qwen3, OLMo 2, Phi."""

from __future__ import annotations

import torch

from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.specs import LIBRARY, block, document

ATTENTION = "layer_templates.*.mixer.attention"
FFN = "layer_templates.*.ffn"
NORM = "layer_templates.*.norm"
UNTIED = {"tie_weights": False}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 4.0,
    "beta_slow": 0.3,
    "attention_factor": 1.3,
    "truncate": False,
}
LONGROPE = {
    "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5, 3.1, 3.8],
    "long_factor": [1.0, 1.5, 2.5, 4.0, 6.0, 8.5, 11.5, 15.0],
    "original_max_position_embeddings": 32,
    "attention_factor": 1.4,
}


def transposed(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """GPT-2's Conv1D keeps (inputs, outputs); biases stay."""
    return (tensor.T if tensor.dim() == 2 else tensor,)


def fused(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values out of one Conv1D, weight or bias."""
    return tuple(tensor.T.chunk(3)) if tensor.dim() == 2 else tensor.chunk(3)


GPT2_BLOCK = block(
    {"qkv_bias": True, "out_bias": True},
    {"type": "mlp", "activation": "gelu_new", "bias": True},
    {"type": "layernorm"},
)
GPT2_SIZES = {"vocab_size": 128, "n_positions": 128, "n_embd": 64, "n_layer": 4, "n_head": 4, "n_inner": 96}
GPT2_IDS = {"bos_token_id": 1, "eos_token_id": 2}
LEARNED = {"positional": "learned"}
GPT2 = Family(
    name="gpt2",
    config="GPT2Config",
    model="GPT2LMHeadModel",
    cases={
        "base": Case(
            document("gpt2_tiny", {"block": GPT2_BLOCK}, model={"n_kv_heads": 4}, embedding=LEARNED),
            {**GPT2_SIZES, **GPT2_IDS},
        ),
        "scaled": Case(
            document(
                "gpt2_scaled",
                {
                    "block": block(
                        {"qkv_bias": True, "out_bias": True, "scale": "${0.25 / (layer.index + 1)}"},
                        {"type": "mlp", "activation": "relu", "bias": True},
                        {"type": "layernorm", "eps": 0.01},
                    )
                },
                model={"n_kv_heads": 4},
                embedding=LEARNED,
                head=UNTIED,
            ),
            {
                **GPT2_SIZES,
                **GPT2_IDS,
                "activation_function": "relu",
                "layer_norm_epsilon": 0.01,
                "scale_attn_by_inverse_layer_idx": True,
                "tie_word_embeddings": False,
            },
        ),
        "unscaled": Case(
            document(
                "gpt2_unscaled",
                {
                    "block": block(
                        {"qkv_bias": True, "out_bias": True, "scale": 1.0},
                        {"type": "mlp", "activation": "gelu_new", "bias": True, "mlp_ratio": 4},
                        {"type": "layernorm"},
                    )
                },
                [{"template": "block"}],
                model={"n_heads": 2, "n_kv_heads": 2, "max_seq_len": 24, "intermediate_size": 32},
                embedding=LEARNED,
            ),
            {
                **GPT2_SIZES,
                **GPT2_IDS,
                "n_positions": 24,
                "n_layer": 1,
                "n_head": 2,
                "n_inner": None,
                "scale_attn_weights": False,
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
            fused,
        ),
        Rename(r"transformer\.h\.(\d+)\.attn\.c_proj\.(\w+)", (r"model.layers.\1.self_attn.o_proj.\2",), transposed),
        Rename(r"transformer\.h\.(\d+)\.mlp\.c_fc\.(\w+)", (r"model.layers.\1.mlp.up_proj.\2",), transposed),
        Rename(r"transformer\.h\.(\d+)\.mlp\.c_proj\.(\w+)", (r"model.layers.\1.mlp.down_proj.\2",), transposed),
    ),
    features=(
        Feature("learned positions", {"embedding.positional": "none"}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("tanh approximation of gelu", {f"{FFN}.activation": "gelu"}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("norms before sublayers", {f"{NORM}.position": "post"}),
        Feature("tied head", {"head.tie_weights": False}, shows="gradients"),
        Feature("eps", {f"{NORM}.eps": 1.0e-5}, case="scaled"),
        Feature("scale by depth", {f"{ATTENTION}.scale": GONE}, case="scaled"),
        Feature("relu", {f"{FFN}.activation": "gelu_new"}, case="scaled"),
        Feature("scale", {f"{ATTENTION}.scale": GONE}, case="unscaled"),
        Feature("width of the feed-forward", {f"{FFN}.mlp_ratio": GONE}, case="unscaled", shows="weights"),
    ),
)

LLAMA = Family(
    name="llama",
    config="LlamaConfig",
    model="LlamaForCausalLM",
    cases={
        "base": Case(
            document(
                "llama_tiny",
                {"block": block()},
                model={"head_dim": 16, "norm_eps": 0.01},
                embedding={"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", **LLAMA3}},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "head_dim": 16,
                "rms_norm_eps": 0.01,
                "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3},
            },
        ),
        "biased": Case(
            document(
                "llama_biased",
                {"block": block({"qkv_bias": True, "out_bias": True}, {"bias": True, "activation": "geglu"})},
                model={"head_dim": 32, "n_kv_heads": 1},
            ),
            {
                **LIBRARY,
                "head_dim": 32,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "mlp_bias": True,
                "hidden_act": "gelu",
                "tie_word_embeddings": True,
            },
        ),
        "linear": Case(
            document(
                "llama_linear",
                {"block": block()},
                model={"n_kv_heads": 4},
                embedding={"rope": {"theta": 10000.0, "scaling": {"type": "linear", "factor": 4.0}}},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "num_key_value_heads": 4,
                "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
            },
        ),
        "yarn": Case(
            document(
                "llama_yarn",
                {"block": block()},
                embedding={"rope": {"theta": 10000.0, "scaling": {"type": "yarn", **YARN}}},
                head=UNTIED,
            ),
            {**LIBRARY, "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **YARN}},
        ),
        "longrope": Case(
            document(
                "llama_longrope",
                {"block": block()},
                embedding={"rope": {"theta": 10000.0, "scaling": {"type": "longrope", **LONGROPE}}},
                head=UNTIED,
            ),
            {**LIBRARY, "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, **LONGROPE}},
        ),
    },
    features=(
        Feature("llama3 rope scaling", {"embedding.rope_scaling": GONE}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("rope", {"embedding": {"positional": "none"}}),
        Feature("half-split rotation", {"embedding.rope": {"interleaved": True}}),
        Feature("eps", {"model.norm_eps": GONE}),
        Feature("rms norm", {f"{NORM}.type": "layernorm"}),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("tied head", {"head.tie_weights": False}, case="biased", shows="gradients"),
        Feature("grouped heads", {"model.n_kv_heads": GONE}, shows="weights"),
        Feature("linear rope scaling", {"embedding.rope.scaling": GONE}, case="linear"),
        Feature("yarn", {"embedding.rope.scaling": GONE}, case="yarn"),
        Feature("yarn's range left unrounded", {"embedding.rope.scaling.truncate": GONE}, case="yarn"),
        Feature("yarn's lower bound", {"embedding.rope.scaling.beta_slow": GONE}, case="yarn"),
        Feature("yarn's upper bound", {"embedding.rope.scaling.beta_fast": GONE}, case="yarn"),
        Feature("yarn's factor on the tables", {"embedding.rope.scaling.attention_factor": GONE}, case="yarn"),
        Feature("longrope", {"embedding.rope.scaling": GONE}, case="longrope"),
        Feature("longrope's factor on the tables", {"embedding.rope.scaling.attention_factor": GONE}, case="longrope"),
    ),
)

QWEN3 = Family(
    name="qwen3",
    config="Qwen3Config",
    model="Qwen3ForCausalLM",
    cases={
        "base": Case(
            document(
                "qwen3_tiny",
                {"block": block({"qk_norm": "head"})},
                model={"head_dim": 32},
                embedding={"rope_theta": 1000000.0},
                head=UNTIED,
            ),
            {**LIBRARY, "head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}},
        ),
        "windowed": Case(
            document(
                "qwen3_windowed",
                {
                    "global": block({"qk_norm": "head", "qkv_bias": True, "out_bias": True}),
                    "local": block({"qk_norm": "head", "qkv_bias": True, "out_bias": True, "window": 8}),
                },
                [{"template": "global", "repeat": 2}, {"template": "local", "repeat": 2}],
                model={"head_dim": 16},
            ),
            {
                **LIBRARY,
                "head_dim": 16,
                "attention_bias": True,
                "use_sliding_window": True,
                "sliding_window": 8,
                "max_window_layers": 2,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    },
    features=(
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("window", {"layer_templates.local.mixer.attention.window": GONE}, case="windowed"),
        Feature("width of the window", {"layer_templates.local.mixer.attention.window": 9}, case="windowed"),
        Feature("global layers", {"layer_templates.global.mixer.attention.window": 8}, case="windowed"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="windowed"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="windowed"),
    ),
)

OLMO2_ATTENTION = {
    "qk_norm": {"over": "full", "float32_weight": True},
    "rope": {"precision": "float32"},
}
OLMO2_NORM = {"position": "output", "float32_weight": True}
OLMO2 = Family(
    name="olmo2",
    config="Olmo2Config",
    model="Olmo2ForCausalLM",
    cases={
        "base": Case(
            document(
                "olmo2_tiny",
                {"block": block(OLMO2_ATTENTION, norm=OLMO2_NORM)},
                model={"norm_eps": 1.0e-5},
                embedding={"rope_theta": 500000.0},
                head=UNTIED,
            ),
            {**LIBRARY, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
        ),
        "biased": Case(
            document(
                "olmo2_biased",
                {"block": block({**OLMO2_ATTENTION, "qkv_bias": True, "out_bias": True}, norm=OLMO2_NORM)},
                model={"norm_eps": 0.01, "n_kv_heads": 4},
            ),
            {
                **LIBRARY,
                "num_key_value_heads": 4,
                "rms_norm_eps": 0.01,
                "attention_bias": True,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("norms on the outputs", {f"{NORM}.position": "pre"}),
        Feature("norm weights in float32", {f"{NORM}.float32_weight": False}, shows="bfloat16"),
        Feature("query and key norm in float32", {f"{ATTENTION}.qk_norm": {"over": "full"}}, shows="bfloat16"),
        Feature("rotation in float32", {f"{ATTENTION}.rope": GONE}, shows="bfloat16"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
    ),
)


PHI_RESIDUAL = {"type": "parallel", "sum": "sublayers_first"}
PHI_ATTENTION = {"qkv_bias": True, "out_bias": True}
PHI_FFN = {"type": "mlp", "activation": "gelu_new", "bias": True}
PHI = Family(
    name="phi",
    config="PhiConfig",
    model="PhiForCausalLM",
    cases={
        "base": Case(
            document(
                "phi_tiny",
                {"block": block(PHI_ATTENTION, PHI_FFN, {"type": "layernorm"}, PHI_RESIDUAL)},
                embedding={"rope": {"partial": 0.5}},
                head={**UNTIED, "bias": True},
            ),
            LIBRARY,
        ),
        "normed": Case(
            document(
                "phi_normed",
                {
                    "block": block(
                        {**PHI_ATTENTION, "qk_norm": {"type": "layernorm", "bias": True}},
                        PHI_FFN,
                        {"type": "layernorm"},
                        PHI_RESIDUAL,
                    )
                },
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"partial": 0.25}},
                head={**UNTIED, "bias": True},
            ),
            {
                **LIBRARY,
                "num_key_value_heads": 4,
                "qk_layernorm": True,
                "layer_norm_eps": 0.01,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
            },
        ),
    },
    renames=(
        Rename(r"(.*)\.self_attn\.dense\.(\w+)", (r"\1.self_attn.o_proj.\2",)),
        Rename(r"(.*)\.self_attn\.([qk])_layernorm\.(\w+)", (r"\1.self_attn.\2_norm.\3",)),
        Rename(r"(.*)\.mlp\.fc1\.(\w+)", (r"\1.mlp.up_proj.\2",)),
        Rename(r"(.*)\.mlp\.fc2\.(\w+)", (r"\1.mlp.down_proj.\2",)),
        Rename(r"model\.final_layernorm\.(\w+)", (r"model.norm.\1",)),
    ),
    features=(
        Feature("partial rotation", {"embedding.rope.partial": GONE}),
        Feature("parallel sublayers", {"layer_templates.*.residual": {"type": "sequential"}}),
        Feature("order of additions", {"layer_templates.*.residual.sum": GONE}, shows="bfloat16"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}),
        Feature("feed-forward biases", {f"{FFN}.bias": False}),
        Feature("head bias", {"head.bias": False}),
        Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
        Feature("activation", {f"{FFN}.activation": GONE}),
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}, case="normed"),
        Feature("biases of query and key norm", {f"{ATTENTION}.qk_norm": {"type": "layernorm"}}, case="normed"),
        Feature("eps", {"model.norm_eps": GONE}, case="normed"),
    ),
)
