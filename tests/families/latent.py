"""Dense families with latent attention: Youtu-LLM, MiniCPM3."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature
from tests.families.routed import MLA, YARN
from tests.families.specs import BIASED, SHALLOW, TWO, block, default_rope, document

YOUTU_SIZES: dict[str, Any] = {
    **SHALLOW,
    # the library empties a padding row after loading it
    "pad_token_id": None,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
}
YOUTU = Family(
    name="youtu",
    config="YoutuConfig",
    model="YoutuForCausalLM",
    cases={
        "base": Case(
            document(
                "youtu_tiny",
                {"block": block({"mla": MLA})},
                TWO,
                model={"n_kv_heads": 4},
                embedding={"rope": {"interleaved": True, "theta": 1600000.0}},
            ),
            {**YOUTU_SIZES, "rope_parameters": default_rope(1600000.0)},
        ),
        "biased": Case(
            document(
                "youtu_biased",
                {"block": block({"mla": MLA, **BIASED})},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"scaling": {"type": "yarn", **YARN}}},
                head=UNTIED,
            ),
            {
                **YOUTU_SIZES,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "rope_interleave": False,
                "tie_word_embeddings": False,
                "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **YARN},
            },
        ),
    },
    features=(
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("rope theta", {"embedding.rope.theta": GONE}),
        Feature("low rank of the queries", {f"{ATTENTION}.mla.q_rank": GONE}, shows="weights"),
        Feature("norms on the latents", {f"{ATTENTION}.mla.norms": False}),
        Feature("width of a value head", {f"{ATTENTION}.mla.v_dim": 16}, shows="weights"),
        Feature("activation", {f"{FFN}.activation": "geglu"}),
        Feature("tied head", {"head": UNTIED}, shows="gradients"),
        Feature("half-split rope", {"embedding.rope.interleaved": True}, case="biased"),
        Feature("yarn", {"embedding.rope.scaling": GONE}, case="biased"),
        Feature("mscale of the scores", {"embedding.rope.scaling.mscale_all_dim": GONE}, case="biased"),
        Feature("biases into the latents", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)

MINICPM3_LONG = {
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 3.0, 4.0, 5.0],
    "original_max_position_embeddings": 32,
}
DEPTH = 1.4 / 2**0.5
MINICPM3 = Family(
    name="minicpm3",
    config="MiniCPM3Config",
    model="MiniCPM3ForCausalLM",
    cases={
        "base": Case(
            document(
                "minicpm3_tiny",
                {"block": block({"mla": MLA}, residual={"scaling": DEPTH})},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 1.0e-5},
                embedding={
                    "rope": {"scaling": {"type": "longrope", **MINICPM3_LONG}},
                    "scale": 12.3,
                    "scale_rounding": "dtype",
                },
                head={"logit_scale": 0.25},
            ),
            {
                **YOUTU_SIZES,
                "rms_norm_eps": 1.0e-5,
                "scale_emb": 12.3,
                "dim_model_base": 16,
                "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, **MINICPM3_LONG},
            },
        ),
        "biased": Case(
            document(
                "minicpm3_biased",
                {"block": block({"mla": MLA, **BIASED}, residual={"scaling": 0.5})},
                TWO,
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"theta": 500.0}, "scale": 2.0},
                head=UNTIED,
            ),
            {
                **YOUTU_SIZES,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "scale_emb": 2.0,
                "scale_depth": 0.5 * 2**0.5,
                "dim_model_base": None,
                "tie_word_embeddings": False,
                "rope_parameters": default_rope(500.0),
            },
        ),
    },
    features=(
        Feature("half-split rope", {"embedding.rope.interleaved": True}),
        Feature("longrope", {"embedding.rope.scaling": GONE}),
        Feature("embedding scale", {"embedding.scale": GONE, "embedding.scale_rounding": GONE}),
        Feature("rounding of the embedding scale", {"embedding.scale_rounding": GONE}, shows="bfloat16"),
        Feature("residual scaling", {"layer_templates.*.residual.scaling": GONE}),
        Feature("logit scale", {"head": {}}),
        Feature("norms on the latents", {f"{ATTENTION}.mla.norms": False}),
        Feature("tied head", {"head.tie_weights": False}, shows="gradients"),
        Feature("rope theta", {"embedding.rope.theta": GONE}, case="biased"),
        Feature("biases into the latents", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)
