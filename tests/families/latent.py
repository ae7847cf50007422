"""Dense families with latent attention: Youtu-LLM."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature
from tests.families.llama_like import BIASED, SHALLOW, TWO, default_rope
from tests.families.routed import MLA, YARN
from tests.families.specs import block, document

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
