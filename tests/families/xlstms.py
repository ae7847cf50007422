"""xLSTM: blocks of mLSTM alone."""

from __future__ import annotations

from typing import Any

from tests.families.harness import GONE, Case, Family, Feature, Rename, Spec
from tests.families.specs import TWO, document

MLSTM = "layer_templates.block.mixer.mlstm"
SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_heads": 4,
    "ffn_round_up_to_multiple_of": 16,
}
ROUNDED = "the library rounds gates, keys and states to bfloat16, token by token"
"""What is shorter than its chunks; longer sequences in bfloat16 are beyond it: its states are float32."""


def xlstm(name: str, mlstm: dict[str, Any], model: dict[str, Any], bias: bool = False, cap: float = 30.0) -> Spec:
    """A spec of blocks of mLSTM; the library's factor 2.667 gives 352 channels."""
    return document(
        name,
        {
            "block": {
                "mixer": {"type": "mlstm", "mlstm": mlstm},
                "ffn": {"type": "gated_mlp", "bias": bias},
            }
        },
        TWO,
        model={"d_model": 128, "intermediate_size": 352, **model},
        embedding={"positional": "none"},
        head={"tie_weights": False, "logit_softcap": cap},
    )


XLSTM = Family(
    name="xlstm",
    config="xLSTMConfig",
    model="xLSTMForCausalLM",
    cases={
        "base": Case(xlstm("xlstm_tiny", {"chunk_size": 8}, {"norm_eps": 1e-6}), SIZES),
        "wide": Case(
            xlstm(
                "xlstm_wide",
                {"qk_dim_factor": 1, "v_dim_factor": 2, "chunk_size": 16, "gate_softcap": 2.0, "eps": 0.1},
                {"norm_eps": 0.01, "n_heads": 2},
                cap=2.0,
            ),
            {
                **SIZES,
                "num_heads": 2,
                "qk_dim_factor": 1.0,
                "v_dim_factor": 2.0,
                "gate_soft_cap": 2.0,
                "output_logit_soft_cap": 2.0,
                "norm_eps": 0.01,
                "eps": 0.1,
            },
        ),
    },
    renames=(
        Rename(r"backbone\.embeddings\.weight", ("model.embed_tokens.weight",)),
        Rename(r"backbone\.out_norm\.weight", ("model.norm.weight",)),
        Rename(r"backbone\.blocks\.(\d+)\.norm_mlstm\.weight", (r"model.layers.\1.input_layernorm.weight",)),
        Rename(r"backbone\.blocks\.(\d+)\.norm_ffn\.weight", (r"model.layers.\1.post_attention_layernorm.weight",)),
        Rename(r"backbone\.blocks\.(\d+)\.mlstm_layer\.([qkv])\.(.*)", (r"model.layers.\1.mlstm.\2_proj.\3",)),
        Rename(r"backbone\.blocks\.(\d+)\.mlstm_layer\.ogate_preact\.(.*)", (r"model.layers.\1.mlstm.g_proj.\2",)),
        Rename(r"backbone\.blocks\.(\d+)\.mlstm_layer\.igate_preact\.(.*)", (r"model.layers.\1.mlstm.input_gate.\2",)),
        Rename(r"backbone\.blocks\.(\d+)\.mlstm_layer\.fgate_preact\.(.*)", (r"model.layers.\1.mlstm.forget_gate.\2",)),
        Rename(r"backbone\.blocks\.(\d+)\.mlstm_layer\.multihead_norm\.(.*)", (r"model.layers.\1.mlstm.head_norm.\2",)),
        Rename(r"backbone\.blocks\.(\d+)\.mlstm_layer\.out_proj\.(.*)", (r"model.layers.\1.mlstm.out_proj.\2",)),
        Rename(r"backbone\.blocks\.(\d+)\.ffn\.proj_up_gate\.(.*)", (r"model.layers.\1.mlp.gate_proj.\2",)),
        Rename(r"backbone\.blocks\.(\d+)\.ffn\.proj_(up|down)\.(.*)", (r"model.layers.\1.mlp.\2_proj.\3",)),
    ),
    features=(
        Feature("cap of the gates", {f"{MLSTM}.gate_softcap": GONE}, case="wide"),
        Feature("width of queries and keys", {f"{MLSTM}.qk_dim_factor": GONE}, case="wide", shows="weights"),
        Feature("width of values", {f"{MLSTM}.v_dim_factor": GONE}, case="wide", shows="weights"),
        Feature("what the output is divided by", {f"{MLSTM}.eps": GONE}, case="wide"),
        Feature("eps of the norms", {"model.norm_eps": GONE}, case="wide"),
        Feature("cap of the logits", {"head.logit_softcap": GONE}, case="wide"),
        Feature("no positions", {"embedding.positional": "sinusoidal"}),
        Feature("head of its own", {"head.tie_weights": True}),
    ),
    rounding=ROUNDED,
    pads=False,
)
