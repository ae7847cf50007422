"""Families with sigmoid routers and norms on queries and keys: EXAONE MoE, Hunyuan V3."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.routed_sigmoid import GROUPED, MOE, SIGMOID, routed
from tests.families.specs import BIASED, LIBRARY, block, default_rope, document

NORMED: dict[str, Any] = {"qk_norm": "head"}


def exaone_templates(window: int, experts: dict[str, Any]) -> dict[str, Spec]:
    """Layers with a window rotate and the others do not; the first has no experts."""
    local, still = {**NORMED, "window": window}, {**NORMED, "rope": "none"}
    return {
        "dense": block(local),
        "local": block(local, routed(experts)),
        "global": block(still, routed(experts)),
    }


EXAONE_SIZES: dict[str, Any] = {
    **LIBRARY,
    "num_hidden_layers": 3,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 4,
    "topk_group": 2,
}
SCHEDULE = [{"pattern": ["dense", "local", "global"]}]
EXAONE_MOE = Family(
    name="exaone_moe",
    config="ExaoneMoeConfig",
    model="ExaoneMoeForCausalLM",
    cases={
        "base": Case(
            document(
                "exaone_moe_tiny",
                exaone_templates(8, GROUPED),
                SCHEDULE,
                model={"norm_eps": 1.0e-5},
                embedding={"rope_theta": 1000000.0},
                head=UNTIED,
            ),
            {**EXAONE_SIZES, "rope_parameters": default_rope(1000000.0)},
        ),
        "undivided": Case(
            document(
                "exaone_moe_undivided",
                exaone_templates(
                    5,
                    {
                        **SIGMOID,
                        "router_float32": True,
                        "normalize": False,
                        "scale": 1.5,
                        "top_k": 3,
                        "shared_experts": 2,
                    },
                ),
                SCHEDULE,
                model={"norm_eps": 0.01, "n_kv_heads": 4},
                embedding={"rope_theta": 50000.0},
            ),
            {
                **EXAONE_SIZES,
                "num_key_value_heads": 4,
                "sliding_window": 5,
                "n_group": 1,
                "topk_group": 1,
                "num_experts_per_tok": 3,
                "norm_topk_prob": False,
                "routed_scaling_factor": 1.5,
                "num_shared_experts": 2,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    features=(
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("global layers without rope", {"layer_templates.global.mixer.attention.rope": GONE}),
        Feature("window", {f"{ATTENTION}.window": GONE}),
        Feature("global layers", {"layer_templates.global.mixer.attention.window": 8}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("groups ranked by their two best", {f"{MOE}.groups.score": "max"}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("dense first layer", {"layer_schedule": [{"pattern": ["local", "local", "global"]}]}),
        Feature("weights left undivided", {f"{MOE}.normalize": True}, case="undivided"),
        Feature("width of the shared experts", {f"{MOE}.shared_experts": 1}, case="undivided", shows="weights"),
        Feature("eps", {"model.norm_eps": GONE}, case="undivided"),
        Feature("tied head", {"head": UNTIED}, case="undivided", shows="gradients"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
    ),
)

HY_EXPERTS: dict[str, Any] = {**SIGMOID, "router_float32": True, "shared_experts": 1, "scale": 2.826}
HY_SIZES: dict[str, Any] = {
    **LIBRARY,
    "num_hidden_layers": 3,
    "head_dim": 24,
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
}
HY_V3 = Family(
    name="hy_v3",
    config="HYV3Config",
    model="HYV3ForCausalLM",
    renames=(Rename(r"(.*\.mlp)\.e_score_correction_bias", (r"\1.gate.e_score_correction_bias",)),),
    cases={
        "base": Case(
            document(
                "hy_v3_tiny",
                {"dense": block(NORMED), "sparse": block(NORMED, routed(HY_EXPERTS))},
                [{"template": "dense"}, {"template": "sparse", "repeat": 2}],
                model={"head_dim": 24, "norm_eps": 1.0e-5},
                embedding={"rope_theta": 11158840.0},
                head=UNTIED,
            ),
            HY_SIZES,
        ),
        "biased": Case(
            document(
                "hy_v3_biased",
                {
                    "dense": block({**NORMED, **BIASED}),
                    "sparse": block(
                        {**NORMED, **BIASED}, routed({**HY_EXPERTS, "top_k": 3, "scale": 1.5, "shared_experts": 2})
                    ),
                },
                [{"template": "sparse"}, {"template": "dense"}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope_theta": 50000.0},
            ),
            {
                **HY_SIZES,
                "num_hidden_layers": 2,
                "num_key_value_heads": 4,
                "head_dim": 16,
                "attention_bias": True,
                "mlp_layer_types": ["sparse", "dense"],
                "num_experts_per_tok": 3,
                "num_shared_experts": 2,
                "router_scaling_factor": 1.5,
                "enable_moe_fp32_combine": False,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": default_rope(50000.0),
            },
        ),
    },
    features=(
        Feature("query and key norm", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("dense first layer", {"layer_schedule": [{"template": "sparse", "repeat": 3}]}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("width of a head", {"model.head_dim": GONE}, shows="weights"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": UNTIED}, case="biased", shows="gradients"),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
    ),
)
