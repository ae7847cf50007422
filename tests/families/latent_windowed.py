"""Families with latent attention in windows and by an indexer: dots3."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.routed import EXPERTS, MLA
from tests.families.specs import LIBRARY, block, document

MOE = f"{FFN}.moe"
AROUND = {"scales": "latents", "rope_key_norm": True, "norm_eps": 1.0e-5, "gate": {"over": "head"}}
INDEXED: dict[str, Any] = {
    "mla": {**MLA, **AROUND},
    "indexer": {"n_heads": 8, "head_dim": 16, "top_k": 32, "interleaved": True},
    "rope": {"interleaved": True, "theta": 50000.0, "precision": "float32"},
}
LOCAL: dict[str, Any] = {
    "mla": {**AROUND, "kv_rank": 32, "q_rank": 20, "nope_dim": 24, "rope_dim": 8, "v_dim": 16},
    "n_heads": 2,
    "n_kv_heads": 2,
    "window": 8,
    "rope": {"interleaved": True, "theta": 500.0},
}
SPARSE = {
    "type": "moe",
    "moe": {**{name: value for name, value in EXPERTS.items() if name != "groups"}, "shared_size": 48},
}
SIZES: dict[str, Any] = {
    **LIBRARY,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "head_dim": 24,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
    "shared_experts_intermediate_size": 48,
    "routed_scaling_factor": 2.5,
    "norm_topk_prob": True,
    "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
    "layer_types": ["indexed_attention", "sliding_attention", "indexed_attention", "sliding_attention"],
    "sliding_window": 8,
    "swa_num_attention_heads": 2,
    "swa_num_key_value_heads": 2,
    "swa_q_lora_rank": 20,
    "swa_kv_lora_rank": 32,
    "swa_head_dim": 32,
    "swa_qk_nope_head_dim": 24,
    "swa_qk_rope_head_dim": 8,
    "swa_v_head_dim": 16,
    "index_topk": 32,
    "index_head_dim": 16,
    "index_n_heads": 8,
    "rope_theta": 50000.0,
    "swa_rope_theta": 500.0,
}
DOTS3 = Family(
    name="dots3_note_text",
    config="Dots3NoteTextConfig",
    model="Dots3NoteForCausalLM",
    renames=(Rename(r"(.*)\.k_rope_only_layernorm\.(\w+)", (r"\1.k_rope_layernorm.\2",)),),
    cases={
        "base": Case(
            document(
                "dots3_tiny",
                {
                    "dense": block(INDEXED),
                    "local": block(LOCAL, SPARSE),
                    "indexed": block(INDEXED, SPARSE),
                },
                [{"template": "dense"}, {"pattern": ["local", "indexed", "local"]}],
                model={"n_kv_heads": 4, "norm_eps": 1.0e-5},
                head=UNTIED,
            ),
            SIZES,
        ),
    },
    features=(
        Feature("factors on the latents", {f"{ATTENTION}.mla.scales": "none"}),
        Feature("norm on the key that rotates", {f"{ATTENTION}.mla.rope_key_norm": False}),
        Feature("eps of the latents' norms", {f"{ATTENTION}.mla.norm_eps": 0.01}),
        Feature("gate", {f"{ATTENTION}.mla.gate": GONE}),
        Feature("gate for a head", {f"{ATTENTION}.mla.gate.over": "element"}, shows="weights"),
        Feature("indexer", {"layer_templates.indexed.mixer.attention.indexer": GONE}, shows="weights"),
        Feature("window", {"layer_templates.local.mixer.attention.window": 9}),
        Feature("theta of the windows", {"layer_templates.local.mixer.attention.rope.theta": 600.0}),
        Feature("theta", {"layer_templates.indexed.mixer.attention.rope.theta": 600.0}),
        Feature("tables in float32", {f"{ATTENTION}.rope.precision": GONE}, shows="bfloat16"),
        Feature("interleaved rope", {"layer_templates.local.mixer.attention.rope.interleaved": False}),
        Feature("eps", {"model.norm_eps": 0.01}),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("weights divided by their sum", {f"{MOE}.normalize": False}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0, f"{MOE}.shared_size": GONE}),
        Feature("width of the shared expert", {f"{MOE}.shared_size": GONE}, shows="weights"),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
    ),
)
