"""A.X-K2: queries and gates that read the latent before and after its norm, norms with gates."""

from __future__ import annotations

from typing import Any

import torch

from tests.families.dense import ATTENTION, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.latent_routed import DEEPSEEK_V32_SIZES, INDEXER, MOE
from tests.families.routed import EXPERTS, MLA, YARN
from tests.families.specs import BIASED, block, document

AXK2_MLA = {**MLA, "q_input": "both", "gate": {"over": "element", "source": "queries", "float32_product": True}}
AXK2_NORM = {"type": "gated_rmsnorm", "rank": 8}


def queries_and_gates(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The rows of queries and those of gates, which take turns by head: 24 and 12 of each."""
    heads = tensor.unflatten(0, (4, -1))
    return tuple(part.flatten(0, 1) for part in heads.split([24, 12], dim=1))


def axk2(indexer: dict[str, Any], **attention: Any) -> dict[str, Spec]:
    """A dense layer and one with experts, whose norms before networks differ."""
    heads = {"mla": AXK2_MLA, "indexer": indexer, **attention}
    return {
        "dense": block(heads, {}, {**AXK2_NORM, "ffn": {"type": "rmsnorm"}}),
        "sparse": block(heads, {"type": "moe", "moe": EXPERTS}, AXK2_NORM),
    }


GATED_NORMS = tuple(
    Rename(rf"(.*)\.{norm}\.{theirs}", (rf"\1.{norm}.{ours}",))
    for norm in ("input_layernorm", "post_attention_layernorm")
    for theirs, ours in (
        (r"norm\.weight", "weight"),
        (r"mlp\.fc1\.weight", "gate_down_proj.weight"),
        (r"mlp\.fc2\.weight", "gate_up_proj.weight"),
    )
)
AXK2_SIZES = {**DEEPSEEK_V32_SIZES, "gated_norm_rank": 8, "num_hidden_layers": 3}
AXK2_SIZES["mlp_layer_types"] = ["dense", "sparse", "sparse"]
AXK2 = Family(
    name="axk2",
    config="AXK2Config",
    model="AXK2ForCausalLM",
    renames=(
        Rename(r"(.*)\.q_gate_proj\.weight", (r"\1.q_b_proj.weight", r"\1.g_proj.weight"), queries_and_gates),
        *GATED_NORMS,
    ),
    cases={
        "base": Case(
            document(
                "axk2_tiny",
                axk2(INDEXER),
                [{"template": "dense"}, {"template": "sparse", "repeat": 2}],
                model={"n_kv_heads": 4},
                embedding={"rope": {"interleaved": True}},
                head={**UNTIED, "norm": {}},
            ),
            AXK2_SIZES,
        ),
        "sparse": Case(
            document(
                "axk2_sparse",
                axk2({**INDEXER, "top_k": 5}, **BIASED),
                [{"pattern": ["dense", "sparse"]}],
                model={"n_kv_heads": 4, "norm_eps": 0.01},
                embedding={"rope": {"interleaved": True, "scaling": {"type": "yarn", **YARN}}},
                head={"norm": {}},
            ),
            {
                **AXK2_SIZES,
                "num_hidden_layers": 2,
                "mlp_layer_types": ["dense", "sparse"],
                "index_topk": 5,
                "attention_bias": True,
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **YARN},
            },
        ),
    },
    features=(
        Feature("queries read the latent before its norm, too", {f"{ATTENTION}.mla.q_input": GONE}, shows="weights"),
        Feature("gates", {f"{ATTENTION}.mla.gate": GONE}, shows="weights"),
        Feature("gates read what queries read", {f"{ATTENTION}.mla.gate.source": GONE}, shows="weights"),
        Feature("a gate for each channel", {f"{ATTENTION}.mla.gate.over": "head"}, shows="weights"),
        Feature("norms with gates", {f"{NORM}.type": GONE, f"{NORM}.rank": GONE}, shows="weights"),
        Feature("rank of these gates", {f"{NORM}.rank": 4}, shows="weights"),
        Feature("a plain norm before dense networks", {"layer_templates.dense.norm.ffn": GONE}, shows="weights"),
        Feature("a plain norm before the head", {"head.norm": GONE}, shows="weights"),
        Feature("indexer", {f"{ATTENTION}.indexer": GONE}, shows="weights"),
        Feature("chosen keys alone", {f"{ATTENTION}.indexer": GONE}, case="sparse"),
        Feature("number of chosen keys", {f"{ATTENTION}.indexer.top_k": 6}, case="sparse"),
        Feature("interleaved rope", {"embedding.rope.interleaved": False}),
        Feature("yarn", {"embedding.rope.scaling": GONE}, case="sparse"),
        Feature("biases into the latents", {f"{ATTENTION}.qkv_bias": False}, case="sparse"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="sparse"),
        Feature("eps", {"model.norm_eps": GONE}, case="sparse"),
        Feature("correction bias", {f"{MOE}.bias_correction": GONE}),
        Feature("group limit", {f"{MOE}.groups": GONE}),
        Feature("experts a token", {f"{MOE}.top_k": 1}),
        Feature("sigmoid scores", {f"{MOE}.router": "softmax"}),
        Feature("routed scale", {f"{MOE}.scale": GONE}),
        Feature("shared expert", {f"{MOE}.shared_experts": 0}),
        Feature("router in float32", {f"{MOE}.router_float32": False}, shows="bfloat16"),
        Feature("tied head", {"head.tie_weights": False}, case="sparse", shows="gradients"),
        Feature("gates multiply in float32", {f"{ATTENTION}.mla.gate.float32_product": False}, shows="bfloat16"),
    ),
)
