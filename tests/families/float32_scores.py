"""Families that compute their scores in float32, beside those of `attending`: CodeGen."""

from __future__ import annotations

from typing import Any

from tests.families.dense import ATTENTION, FFN, NORM, UNTIED
from tests.families.harness import GONE, Case, Family, Feature, Rename
from tests.families.layouts import triples
from tests.families.specs import TWO, block, document

RESIDUAL = "layer_templates.*.residual"
SIZES: dict[str, Any] = {"vocab_size": 128, "n_positions": 128, "n_embd": 64, "n_layer": 2, "n_head": 4}
IDS = {"bos_token_id": 1, "eos_token_id": 2}


def turning(name: str, activation: str, **rest: Any) -> dict[str, Any]:
    """Two layers of parallel sublayers behind one norm, half of a head rotating in pairs."""
    layer = block(
        {"score_dtype": "float32"},
        {"type": "mlp", "activation": activation, "bias": True, "mlp_ratio": 4},
        {"type": "layernorm"},
        {"type": "parallel", "sum": "sublayers_first"},
    )
    model = {"n_kv_heads": 4, **rest.pop("model", {})}
    return document(name, {"block": layer}, TWO, model=model, **rest)


def renames(*fused: Rename) -> tuple[Rename, ...]:
    """The names that GPT-J and CodeGen have in common."""
    return (
        *fused,
        Rename(r"transformer\.wte\.weight", ("model.embed_tokens.weight",)),
        Rename(r"transformer\.ln_f\.(\w+)", (r"model.norm.\1",)),
        Rename(r"transformer\.h\.(\d+)\.ln_1\.(\w+)", (r"model.layers.\1.input_layernorm.\2",)),
        Rename(r"transformer\.h\.(\d+)\.attn\.([qkv])_proj\.weight", (r"model.layers.\1.self_attn.\2_proj.weight",)),
        Rename(r"transformer\.h\.(\d+)\.attn\.out_proj\.weight", (r"model.layers.\1.self_attn.o_proj.weight",)),
        Rename(r"transformer\.h\.(\d+)\.mlp\.fc_in\.(\w+)", (r"model.layers.\1.mlp.up_proj.\2",)),
        Rename(r"transformer\.h\.(\d+)\.mlp\.fc_out\.(\w+)", (r"model.layers.\1.mlp.down_proj.\2",)),
    )


FEATURES = (
    Feature("interleaved rope", {"embedding.rope.interleaved": False}),
    Feature("partial rotation", {"embedding.rope.partial": GONE}),
    Feature("scores in float32", {f"{ATTENTION}.score_dtype": GONE}, shows="bfloat16"),
    Feature("parallel sublayers", {RESIDUAL: {"type": "sequential"}}),
    Feature("order of additions", {f"{RESIDUAL}.sum": GONE}, shows="bfloat16"),
    Feature("feed-forward biases", {f"{FFN}.bias": False}),
    Feature("activation", {f"{FFN}.activation": "gelu"}),
    Feature("layer norm", {f"{NORM}.type": "rmsnorm"}),
    Feature("head bias", {"head.bias": False}),
    Feature("eps", {"model.norm_eps": GONE}, case="relu"),
)
HALF = {"rope": {"interleaved": True, "partial": 0.5}}
QUARTER = {"rope": {"interleaved": True, "partial": 0.25}}
BIASED_HEAD = {**UNTIED, "bias": True}
UNROUNDED = "the library leaves rotated queries and keys in float32 where there is no cache"

CODEGEN = Family(
    name="codegen",
    config="CodeGenConfig",
    model="CodeGenForCausalLM",
    rounding=UNROUNDED,
    cases={
        "base": Case(
            turning("codegen_tiny", "gelu_new", embedding=HALF, head=BIASED_HEAD),
            {**SIZES, **IDS, "n_ctx": 128, "rotary_dim": 8},
        ),
        "relu": Case(
            turning("codegen_relu", "relu", model={"norm_eps": 0.01}, embedding=QUARTER, head=BIASED_HEAD),
            {
                **SIZES,
                **IDS,
                "n_ctx": 128,
                "rotary_dim": 4,
                "activation_function": "relu",
                "layer_norm_epsilon": 0.01,
            },
        ),
    },
    # four parts with a head each, of which the middle third are the values
    renames=renames(
        Rename(
            r"transformer\.h\.(\d+)\.attn\.qkv_proj\.weight",
            tuple(rf"model.layers.\1.self_attn.{part}_proj.weight" for part in "qvk"),
            triples,
        )
    ),
    features=FEATURES,
)
