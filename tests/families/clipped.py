"""Families with clipped projections or norms within sublayers: DBRX, BitNet."""

from __future__ import annotations

from typing import Any

import torch

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.layouts import stacked
from tests.families.specs import LIBRARY, block, document

EXPERT_SIZE = 48


def rows(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The matrices of all experts, one below the other, as (experts, outputs, inputs)."""
    return (tensor.view(-1, EXPERT_SIZE, tensor.shape[-1]),)


def columns(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The same, of matrices that are kept as (inputs, outputs)."""
    return (tensor.view(-1, EXPERT_SIZE, tensor.shape[-1]).transpose(1, 2),)


ROUTED: dict[str, Any] = {
    "experts": 4,
    "top_k": 2,
    "expert_size": EXPERT_SIZE,
    "scores_dtype": "model",
    "load_balance_coef": 0.05,
}
PLAIN_NORM = {"type": "layernorm", "bias": False}
DBRX_SIZES = {"vocab_size": 128, "d_model": 64, "n_heads": 4, "n_layers": 4, "max_seq_len": 128}
DBRX = Family(
    name="dbrx",
    config="DbrxConfig",
    model="DbrxForCausalLM",
    losses={"output_router_logits": True},
    renames=(
        Rename(r"transformer\.wte\.weight", ("model.embed_tokens.weight",)),
        Rename(r"transformer\.norm_f\.weight", ("model.norm.weight",)),
        Rename(
            r"transformer\.blocks\.(\d+)\.norm_attn_norm\.norm_1\.weight", (r"model.layers.\1.input_layernorm.weight",)
        ),
        Rename(
            r"transformer\.blocks\.(\d+)\.norm_attn_norm\.norm_2\.weight",
            (r"model.layers.\1.post_attention_layernorm.weight",),
        ),
        Rename(
            r"transformer\.blocks\.(\d+)\.norm_attn_norm\.attn\.Wqkv\.weight",
            tuple(rf"model.layers.\1.self_attn.{name}_proj.weight" for name in "qkv"),
            stacked,
        ),
        Rename(
            r"transformer\.blocks\.(\d+)\.norm_attn_norm\.attn\.out_proj\.weight",
            (r"model.layers.\1.self_attn.o_proj.weight",),
        ),
        Rename(r"transformer\.blocks\.(\d+)\.ffn\.router\.layer\.weight", (r"model.layers.\1.mlp.gate.weight",)),
        Rename(
            r"transformer\.blocks\.(\d+)\.ffn\.experts\.mlp\.w1", (r"model.layers.\1.mlp.experts.gate_up_proj#0",), rows
        ),
        Rename(
            r"transformer\.blocks\.(\d+)\.ffn\.experts\.mlp\.v1", (r"model.layers.\1.mlp.experts.gate_up_proj#1",), rows
        ),
        Rename(
            r"transformer\.blocks\.(\d+)\.ffn\.experts\.mlp\.w2", (r"model.layers.\1.mlp.experts.down_proj",), columns
        ),
    ),
    cases={
        "base": Case(
            document(
                "dbrx_tiny",
                {
                    "block": block(
                        {"clip_qkv": 0.3}, {"type": "moe", "moe": {**ROUTED, "normalize": {"power": 2.0}}}, PLAIN_NORM
                    )
                },
                embedding={"rope_theta": 500000.0},
                head=UNTIED,
            ),
            {
                **DBRX_SIZES,
                "attn_config": {"kv_n_heads": 2, "clip_qkv": 0.3, "rope_theta": 500000.0},
                "ffn_config": {
                    "hidden_size": 64,
                    "ffn_hidden_size": EXPERT_SIZE,
                    "moe_num_experts": 4,
                    "moe_top_k": 2,
                    "moe_loss_weight": 0.05,
                    "moe_normalize_expert_weights": 2.0,
                },
                "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
            },
        ),
        "undivided": Case(
            document(
                "dbrx_undivided",
                {"block": block({"clip_qkv": 8.0}, {"type": "moe", "moe": {**ROUTED, "normalize": False}}, PLAIN_NORM)},
                [{"template": "block", "repeat": 2}],
                model={"n_kv_heads": 1},
                head=UNTIED,
            ),
            {
                **DBRX_SIZES,
                "n_layers": 2,
                "attn_config": {"kv_n_heads": 1, "clip_qkv": 8.0, "rope_theta": 10000.0},
                "ffn_config": {
                    "hidden_size": 64,
                    "ffn_hidden_size": EXPERT_SIZE,
                    "moe_num_experts": 4,
                    "moe_top_k": 2,
                    "moe_loss_weight": 0.05,
                    "moe_normalize_expert_weights": None,
                },
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    },
    features=(
        Feature("clipped projections", {f"{ATTENTION}.clip_qkv": GONE}),
        Feature("magnitude of the clipping", {f"{ATTENTION}.clip_qkv": 0.4}),
        Feature("norm of the weights", {f"{FFN}.moe.normalize": True}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("layer norms", {f"{NORM}.type": GONE, f"{NORM}.bias": GONE}),
        Feature("norms without biases", {f"{NORM}.bias": GONE}, shows="weights"),
        Feature("width of an expert", {f"{FFN}.moe.expert_size": 40}, shows="weights"),
        Feature("scores in the model's dtype", {f"{FFN}.moe.scores_dtype": GONE}, shows="bfloat16"),
        Feature("load-balancing loss", {f"{FFN}.moe.load_balance_coef": GONE}, shows="loss"),
        Feature("two experts a token", {f"{FFN}.moe.top_k": 1}),
        Feature("weights left undivided", {f"{FFN}.moe.normalize": True}, case="undivided"),
    ),
)

BITNET = Family(
    name="bitnet",
    config="BitNetConfig",
    model="BitNetForCausalLM",
    renames=(Rename(r"(.*)\.self_attn\.attn_sub_norm\.weight", (r"\1.self_attn.o_norm.weight",)),),
    cases={
        "base": Case(
            document(
                "bitnet_tiny",
                {"block": block({"out_norm": {}}, {"activation": "relu2", "inner_norm": True})},
                model={"norm_eps": 1.0e-5},
                embedding={"rope_theta": 500000.0},
            ),
            {**LIBRARY, "rms_norm_eps": 1e-5, "tie_word_embeddings": True},
        ),
        "biased": Case(
            document(
                "bitnet_biased",
                {
                    "block": block(
                        {"out_norm": {}, "qkv_bias": True, "out_bias": True},
                        {"activation": "swiglu", "inner_norm": True},
                    )
                },
                [{"template": "block", "repeat": 2}],
                model={"n_kv_heads": 1, "norm_eps": 0.01},
                head=UNTIED,
            ),
            {
                **LIBRARY,
                "num_hidden_layers": 2,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "hidden_act": "silu",
                "rms_norm_eps": 0.01,
                "tie_word_embeddings": False,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    },
    features=(
        Feature("norm before the output projection", {f"{ATTENTION}.out_norm": GONE}, shows="weights"),
        Feature("norm within the feed-forward", {f"{FFN}.inner_norm": GONE}, shows="weights"),
        Feature("squared relu", {f"{FFN}.activation": "swiglu"}),
        Feature("rope theta", {"embedding.rope_theta": GONE}),
        Feature("biases", {f"{ATTENTION}.qkv_bias": False}, case="biased"),
        Feature("output bias", {f"{ATTENTION}.out_bias": False}, case="biased"),
        Feature("eps", {"model.norm_eps": GONE}, case="biased"),
    ),
)
