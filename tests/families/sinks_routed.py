"""Families whose heads have a sink beside routed experts: Granite MoE SWA."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.experts import CHOSEN, GRANITE_RENAMES, halves, routed
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.sinks import GRANITE_MULTIPLIERS
from tests.families.specs import BIASED, GLOBAL, LIBRARY, LOCAL, block, document

MOE = f"{FFN}.moe"


def granite_templates(window: int, attention: dict[str, Any], ffn: dict[str, Any]) -> dict[str, Spec]:
    """A global layer that does not rotate and a local one that does, both with a sink."""
    attention = {"attention_sinks": {"placement": "gate"}, "scale": 0.015625, **attention}
    residual = {"scaling": 0.22}
    return {
        "global": block({**attention, "rope": "none"}, ffn, residual=residual),
        "local": block({**attention, "window": window}, ffn, residual=residual),
    }


GRANITE_SIZES: dict[str, Any] = {
    **LIBRARY,
    **GRANITE_MULTIPLIERS,
    "num_hidden_layers": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}
GRANITEMOE_SWA = Family(
    name="granitemoe_swa",
    config="GraniteMoeSWAConfig",
    model="GraniteMoeSWAForCausalLM",
    losses={"output_router_logits": True},
    cases={
        "base": Case(
            document(
                "granitemoe_swa_tiny",
                granite_templates(8, {}, routed(**CHOSEN, shared_experts=1, shared_size=48, load_balance_coef=0.02)),
                [{"pattern": ["global", "local"]}],
                embedding={"scale": 12.0},
                head={**UNTIED, "logit_divisor": 6.0},
            ),
            {
                **GRANITE_SIZES,
                "sliding_window": 8,
                "layer_rope_theta": [0.0, 10000.0],
                "shared_intermediate_size": 48,
                "router_aux_loss_coef": 0.02,
                "rms_norm_eps": 1.0e-6,
                "tie_word_embeddings": False,
            },
        ),
        "biased": Case(
            document(
                "granitemoe_swa_biased",
                granite_templates(5, BIASED, {**routed(**CHOSEN, top_k=3), "activation": "geglu"}),
                [{"pattern": ["local", "global"]}],
                model={"norm_eps": 0.01, "n_kv_heads": 4},
                embedding={"rope_theta": 500.0, "scale": 12.0},
                head={"logit_divisor": 6.0},
            ),
            {
                **GRANITE_SIZES,
                "num_experts_per_tok": 3,
                "num_key_value_heads": 4,
                "sliding_window": 5,
                "layer_types": ["sliding_attention", "full_attention"],
                "layer_rope_theta": [500.0, 0.0],
                "attention_bias": True,
                "hidden_act": "gelu",
                "router_aux_loss_coef": 0.0,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
            },
        ),
    },
    renames=(
        *GRANITE_RENAMES,
        Rename(
            r"(.*)\.shared_mlp\.input_linear\.weight",
            (r"\1.mlp.shared_experts.gate_proj.weight", r"\1.mlp.shared_experts.up_proj.weight"),
            halves,
        ),
        Rename(r"(.*)\.shared_mlp\.output_linear\.weight", (r"\1.mlp.shared_experts.down_proj.weight",)),
    ),
    features=(
        Feature("sinks", {f"{ATTENTION}.attention_sinks": GONE}),
        Feature("global layers without rope", {f"{GLOBAL}.rope": GONE}),
        Feature("window", {f"{LOCAL}.window": GONE}),
        Feature("width of the window", {f"{LOCAL}.window": 9}),
        Feature("global layers", {f"{GLOBAL}.window": 8}),
        Feature("embedding multiplier", {"embedding.scale": GONE}),
        Feature("attention multiplier", {f"{ATTENTION}.scale": GONE}),
        Feature("residual multiplier", {"layer_templates.*.residual.scaling": GONE}),
        Feature("logit divisor", {"head.logit_divisor": GONE}),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("experts chosen by logits", {f"{MOE}.score_over": GONE, f"{MOE}.normalize": False}),
        Feature("weights in the model's dtype", {f"{MOE}.weights_dtype": GONE}, shows="bfloat16"),
        Feature("shared expert", {f"{MOE}.shared_experts": 0, f"{MOE}.shared_size": GONE}),
        Feature("load-balancing loss", {f"{MOE}.load_balance_coef": 0.0}, shows="loss"),
        Feature("rope theta", {"embedding.rope_theta": GONE}, case="biased"),
        Feature("query, key and value biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("activation", {f"{FFN}.activation": GONE}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
        Feature("tied head", {"head": {**UNTIED, "logit_divisor": 6.0}}, case="biased", shows="gradients"),
    ),
)
