"""Families whose units are computed in float32, experts too: Beam."""

from __future__ import annotations

from typing import Any

from tests.families.dense import FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature
from tests.families.specs import BIASED, LIBRARY, block, default_rope, document

ATTENTION = "layer_templates.*.mixer.attention"
RESIDUAL = "layer_templates.*.residual"
SPARSE = "layer_templates.*.ffn.moe"

# The sums with the stream are numbered from 2; each keeps the variance of its terms
MIXER, FFN_SUM = "(2 * layer.index + 2)", "(2 * layer.index + 3)"
DEPTH = {
    "scaling": {"mixer": f"${{1 / sqrt({MIXER})}}", "ffn": f"${{1 / sqrt({FFN_SUM})}}"},
    "skip_scaling": {
        "mixer": f"${{sqrt(({MIXER} - 1) / {MIXER})}}",
        "ffn": f"${{sqrt(({FFN_SUM} - 1) / {FFN_SUM})}}",
    },
}
GATED = {"qk_norm": {"float32_weight": True}, "output_gate": {"bias": "head"}}
LOCAL = {**GATED, "window": 8, "rope": {"theta": 500.0, "precision": "float32"}}
GLOBAL = {**GATED, "rope": "none", "temperature": {"form": "power", "scale": 0.1, "length": 2048}}
ROUTED = {
    "experts": 8,
    "top_k": 2,
    "expert_size": 32,
    "router": "sigmoid",
    "router_float32": True,
    "router_dtype": "float32",
    "groups": {"count": 2, "limit": 1},
    "bias_correction": {},
    "scale": 2.5,
    "scale_at": "output",
    "load_balance_coef": 0.0,
}


def layer(
    attention: dict[str, Any], ffn: dict[str, Any] | None = None, unit: str = "swiglu", **moe: Any
) -> dict[str, Any]:
    """One layer: norms on both sides, sums weighed by depth; dense unless experts are said."""
    network = ffn or {"type": "moe", "moe": {**ROUTED, **moe}}
    norm = {"position": "sandwich", "float32_weight": True}
    return block(attention, {"activation_float32": True, "activation": unit, **network}, norm, DEPTH)


BEAM = Family(
    name="beam",
    config="BeamConfig",
    model="BeamForCausalLM",
    cases={
        "base": Case(
            document(
                "beam_tiny",
                {"dense": layer(LOCAL, {"type": "gated_mlp"}), "local": layer(LOCAL), "global": layer(GLOBAL)},
                [{"pattern": ["dense", "local", "local", "global"]}],
                model={"head_dim": 16},
                head={**UNTIED, "logit_softcap": 30.0, "softcap_dtype": "float32"},
            ),
            {
                **LIBRARY,
                "head_dim": 16,
                "sliding_window": 8,
                "moe_intermediate_size": 32,
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "n_group": 2,
                "topk_group": 1,
                "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
                "layer_types": [*["sliding_attention"] * 3, "full_attention"],
                "rope_parameters": {"sliding_attention": default_rope(500.0), "full_attention": None},
            },
        ),
        "biased": Case(
            document(
                "beam_biased",
                {
                    "global": layer(
                        {**GLOBAL, **BIASED}, None, "geglu", normalize=False, scale=1.5, groups={"count": 4, "limit": 2}
                    ),
                    "local": layer({**LOCAL, **BIASED}, {"type": "gated_mlp"}, "geglu"),
                },
                [{"pattern": ["global", "local"]}],
                model={"head_dim": 24, "norm_eps": 0.01},
                head={"logit_softcap": 10.0, "softcap_dtype": "float32"},
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 2,
                "head_dim": 24,
                "hidden_act": "gelu",
                "sliding_window": 8,
                "attention_bias": True,
                "moe_intermediate_size": 32,
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "n_group": 4,
                "topk_group": 2,
                "norm_topk_prob": False,
                "routed_scaling_factor": 1.5,
                "rms_norm_eps": 0.01,
                "final_logit_softcapping": 10.0,
                "tie_word_embeddings": True,
                "mlp_layer_types": ["sparse", "dense"],
                "layer_types": ["full_attention", "sliding_attention"],
                "rope_parameters": {"sliding_attention": default_rope(500.0), "full_attention": None},
            },
        ),
    },
    features=(
        Feature("sums weighed by depth", {f"{RESIDUAL}.scaling": GONE}),
        Feature("stream weighed by depth", {f"{RESIDUAL}.skip_scaling": GONE}),
        Feature("activation in float32", {f"{FFN}.activation_float32": False}, shows="bfloat16"),
        Feature(
            "activation of experts in float32",
            {f"layer_templates.{name}.ffn.activation_float32": False for name in ("local", "global")},
            shows="bfloat16",
        ),
        Feature("norm of queries and keys", {f"{ATTENTION}.qk_norm": GONE}),
        Feature("that norm's weight in float32", {f"{ATTENTION}.qk_norm.float32_weight": False}, shows="bfloat16"),
        Feature("gate on the heads' outputs", {f"{ATTENTION}.output_gate": GONE}),
        Feature("a bias of the gates for each head", {f"{ATTENTION}.output_gate.bias": "none"}, shows="weights"),
        Feature("window", {f"{ATTENTION}.window": GONE}),
        Feature("rope theta", {f"{ATTENTION}.rope.theta": GONE}),
        Feature("tables in float32", {f"{ATTENTION}.rope.precision": GONE}, shows="bfloat16"),
        Feature("global layers without rope", {"layer_templates.global.mixer.attention.rope": GONE}),
        Feature("temperature of queries", {f"{ATTENTION}.temperature": GONE}),
        Feature("norms around sublayers", {f"{NORM}.position": "pre"}, shows="weights"),
        Feature("norm weights in float32", {f"{NORM}.float32_weight": False}, shows="bfloat16"),
        Feature("sigmoid scores", {f"{SPARSE}.router": "softmax"}),
        Feature(
            "router in float32", {f"{SPARSE}.router_float32": False, f"{SPARSE}.router_dtype": GONE}, shows="bfloat16"
        ),
        Feature("router kept in float32", {f"{SPARSE}.router_dtype": GONE}, shows="bfloat16"),
        Feature("groups of experts", {f"{SPARSE}.groups": GONE}),
        Feature("correction bias", {f"{SPARSE}.bias_correction": GONE}),
        Feature("two experts a token", {f"{SPARSE}.top_k": 1}),
        # The norm behind the experts takes the factor out again, but for rounding
        Feature("routed scale", {f"{SPARSE}.scale": 1.0}, shows="bfloat16"),
        Feature("scale on the experts' sum", {f"{SPARSE}.scale_at": GONE}, shows="bfloat16"),
        Feature("soft cap on the logits", {"head.logit_softcap": GONE, "head.softcap_dtype": GONE}),
        Feature("cap in float32", {"head.softcap_dtype": GONE}, shows="bfloat16"),
        Feature("weights left undivided", {"layer_templates.global.ffn.moe.normalize": True}, case="biased"),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head.tie_weights": False}, case="biased", shows="gradients"),
    ),
)
