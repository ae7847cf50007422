"""Families a step from Llama, all layers alike: InternLM 3, Qwen2, Seed-OSS, ERNIE 4.5, IQuest-Coder, Arcee."""

from __future__ import annotations

from tests.families.dense import ATTENTION, FFN, LLAMA3, UNTIED
from tests.families.harness import GONE, Case, Family, Feature
from tests.families.specs import BIASED, GLOBAL, LIBRARY, LOCAL, QKV_BIASED, SHALLOW, TWO, block, default_rope, document

INTERNLM3 = Family(
    name="internlm3",
    config="InternLM3Config",
    model="LlamaForCausalLM",
    cases={
        "base": Case(
            document(
                "internlm3_tiny",
                {"block": block()},
                TWO,
                model={"head_dim": 24, "norm_eps": 1.0e-5, "max_seq_len": 16},
                embedding={"rope": {"theta": 50000.0, "scaling": {"type": "dynamic", "factor": 6.0}}},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "head_dim": 24,
                "max_position_embeddings": 16,
                "rope_parameters": {"rope_type": "dynamic", "rope_theta": 50000.0, "factor": 6.0},
            },
        ),
        "biased": Case(
            document(
                "internlm3_biased",
                {"block": block(BIASED, {"bias": True})},
                TWO,
                model={"n_kv_heads": 1, "norm_eps": 0.01},
                embedding={"rope": {"theta": 50000.0, "scaling": {"type": "dynamic", "factor": 6.0}}},
            ),
            {
                **SHALLOW,
                "head_dim": None,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "mlp_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "dynamic", "rope_theta": 50000.0, "factor": 6.0},
            },
        ),
    },
    features=(
        # beyond the length its base was set for, the library's cached run differs from its full one by as much
        Feature("base that grows with the length", {"embedding.rope.scaling": GONE}, shows="gradients"),
        Feature("factor of the growth", {"embedding.rope.scaling.factor": 2.0}, shows="gradients"),
        Feature("length from which it grows", {"model.max_seq_len": 20}, shows="gradients"),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("one key/value head", {"model.n_kv_heads": GONE}, case="biased", shows="weights"),
        Feature("tied head", {"head": {"tie_weights": False}}, case="biased", shows="gradients"),
    ),
)

QWEN2 = Family(
    name="qwen2",
    config="Qwen2Config",
    model="Qwen2ForCausalLM",
    cases={
        "base": Case(
            document(
                "qwen2_tiny",
                {"block": block(QKV_BIASED)},
                TWO,
                embedding={"rope_theta": 1000000.0},
                head=UNTIED,
            ),
            {**SHALLOW, "rope_parameters": default_rope(1000000.0)},
        ),
        "windowed": Case(
            document(
                "qwen2_windowed",
                {
                    "global": block(QKV_BIASED, {"activation": "geglu"}),
                    "local": block({**QKV_BIASED, "window": 8}, {"activation": "geglu"}),
                },
                [{"template": "global", "repeat": 1}, {"template": "local", "repeat": 2}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 3,
                "num_key_value_heads": 4,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "use_sliding_window": True,
                "sliding_window": 8,
                "max_window_layers": 1,
                "tie_word_embeddings": True,
            },
        ),
    },
    features=(
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("no output bias", {f"{ATTENTION}.out_bias": True}, shows="weights"),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}, case="windowed"),
        Feature("width of the window", {f"{LOCAL}.window": 9}, case="windowed"),
        Feature("global layers", {f"{GLOBAL}.window": 8}, case="windowed"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="windowed"),
        Feature("eps", {"model.norm_eps": GONE}, case="windowed"),
        Feature("tied head", {"head.tie_weights": False}, case="windowed", shows="gradients"),
    ),
)

SEED_OSS = Family(
    name="seed_oss",
    config="SeedOssConfig",
    model="SeedOssForCausalLM",
    cases={
        "base": Case(
            document("seed_oss_tiny", {"block": block(QKV_BIASED)}, TWO, model={"head_dim": 24}, head=UNTIED),
            {**SHALLOW, "head_dim": 24},
        ),
        "out_biased": Case(
            document(
                "seed_oss_biased",
                {"block": block({"qkv_bias": False, "out_bias": True}, {"bias": True, "activation": "geglu"})},
                TWO,
                model={"norm_eps": 0.01},
                embedding={"rope": {"theta": 10000000.0, "scaling": {"type": "linear", "factor": 2.0}}},
            ),
            {
                **SHALLOW,
                "head_dim": None,
                "attention_bias": False,
                "attention_out_bias": True,
                "mlp_bias": True,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "linear", "rope_theta": 10000000.0, "factor": 2.0},
            },
        ),
    },
    features=(
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="out_biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="out_biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="out_biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="out_biased"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="out_biased"),
        Feature("linear rope scaling", {"embedding.rope.scaling": GONE}, case="out_biased"),
        Feature("tied head", {"head": {"tie_weights": False}}, case="out_biased", shows="gradients"),
    ),
)

ERNIE_ROPE = {"interleaved": True, "precision": "float32"}
ERNIE4_5 = Family(
    name="ernie4_5",
    config="Ernie4_5Config",
    model="Ernie4_5ForCausalLM",
    cases={
        "base": Case(
            document(
                "ernie_tiny",
                {"block": block()},
                TWO,
                model={"head_dim": 24, "norm_eps": 1.0e-5},
                embedding={"rope": {**ERNIE_ROPE, "theta": 500000.0}},
            ),
            {**SHALLOW, "head_dim": 24, "rope_parameters": default_rope(500000.0)},
        ),
        "biased": Case(
            document(
                "ernie_biased",
                {"block": block(BIASED, {"bias": True, "activation": "geglu"})},
                TWO,
                model={"norm_eps": 0.01},
                embedding={"rope": ERNIE_ROPE},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "head_dim": None,
                "use_bias": True,
                "hidden_act": "gelu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": False,
                "rope_parameters": default_rope(10000.0),
            },
        ),
    },
    features=(
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("rotation in float32", {"embedding.rope.precision": GONE}, shows="bfloat16"),
        Feature("tables in float32", {"embedding.rope.precision": "float32_rotation"}, shows="bfloat16"),
        Feature("rope theta", {"embedding.rope.theta": GONE}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("tied head", {"head": {"tie_weights": False}}, shows="gradients"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)

IQUESTCODER = Family(
    name="iquestcoder",
    config="IQuestCoderConfig",
    model="LlamaForCausalLM",
    cases={
        "base": Case(
            document(
                "iquestcoder_tiny",
                {"block": block()},
                TWO,
                model={"head_dim": 24, "norm_eps": 1.0e-5},
                embedding={"rope_theta": 500000.0},
                head=UNTIED,
            ),
            {**SHALLOW, "head_dim": 24, "rope_parameters": default_rope(500000.0)},
        ),
        "biased": Case(
            document(
                "iquestcoder_biased",
                {"block": block(BIASED, {"bias": True})},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope_scaling": {"type": "llama3", **LLAMA3}},
            ),
            {
                **SHALLOW,
                "head_dim": None,
                "num_key_value_heads": 4,
                "attention_bias": True,
                "mlp_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, **LLAMA3},
            },
        ),
    },
    features=(
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("llama3 rope scaling", {"embedding.rope_scaling": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": {"tie_weights": False}}, case="biased", shows="gradients"),
    ),
)

ARCEE_FFN = {"type": "mlp", "activation": "relu2"}
ARCEE_YARN = {"factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 4.0, "beta_slow": 0.3}
ARCEE = Family(
    name="arcee",
    config="ArceeConfig",
    model="ArceeForCausalLM",
    cases={
        "base": Case(
            document(
                "arcee_tiny",
                {"block": block(ffn=ARCEE_FFN)},
                TWO,
                model={"head_dim": 24, "norm_eps": 1.0e-5},
                embedding={"rope": {"scaling": {"type": "yarn", **ARCEE_YARN}}},
                head=UNTIED,
            ),
            {
                **SHALLOW,
                "head_dim": 24,
                "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **ARCEE_YARN},
            },
        ),
        "biased": Case(
            document(
                "arcee_biased",
                {"block": block(BIASED, {**ARCEE_FFN, "bias": True})},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope_theta": 50000.0},
            ),
            {
                **SHALLOW,
                "num_key_value_heads": 4,
                "attention_bias": True,
                "mlp_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    features=(
        Feature("squared relu", {f"{FFN}.activation": "relu"}),
        Feature("feed-forward without a gate", {f"{FFN}.type": "gated_mlp"}, shows="weights"),
        Feature("yarn", {"embedding.rope.scaling": GONE}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("feed-forward biases", {f"{FFN}.bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": {"tie_weights": False}}, case="biased", shows="gradients"),
    ),
)
