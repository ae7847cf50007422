"""A specialised component computes what the generic one computes under a config that holds the facts: to the bit."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import combinations, product
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import Factory, frozen
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicIndexedLayer, LinearAttentionLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import eulerc.backends.hf.components as components
from eulerc.backends.hf.components.depth_router import DepthRouter
from eulerc.backends.hf.components.rotary_embedding import RotaryEmbedding
from eulerc.backends.hf.components.xielu import XIELU
from eulerc.backends.hf.emit.facts import OPTIONAL_SIZES
from eulerc.backends.hf.link import Request, link
from eulerc.backends.hf.specialise import PRESENT
from eulerc.ir.attention_options import MAKING_FACTS
from tests.components.harness import BATCH, LENGTH, causal_mask, component_config, fill_slots, hidden_states, perturb

FOLDER = Path(next(iter(components.__path__)))
EXHAUSTIVE = 512
SAMPLE = 64
PRODUCTS = 200_000
DRAWS = 60_000
FLAG = (False, True)
PRESENCE = (*OPTIONAL_SIZES, "rope_layers")
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "mscale": 1.0,
    "mscale_all_dim": 0.8,
}

Facts = Mapping[str, Any]
Inputs = Callable[[PreTrainedConfig], dict[str, Any]]


@frozen
class Case:
    """How to try one component class.

    `facts` holds the values of each fact as the config has them; `legal` says which combinations there are. `slots`
    gives, for a slot, the (component, definition) pairs that may fill it; those of `filled` depend on the facts.
    `dropped` names the parameters that a class without some facts does not take; `differing` holds sizes of layer 1
    that are not those of layer 0.
    """

    component: str
    name: str
    inputs: Inputs
    facts: Mapping[str, tuple[Any, ...]] = Factory(dict)
    slots: Mapping[str, tuple[tuple[str, str], ...]] = Factory(dict)
    legal: Callable[[Facts], bool] = lambda facts: True
    filled: Callable[[Facts], dict[str, tuple[str, str]]] = lambda facts: {}
    dropped: Callable[[Facts], set[str]] = lambda facts: set()
    arguments: Callable[[Facts], dict[str, Any]] = lambda facts: {"layer_idx": 1}
    config: Callable[[Facts], dict[str, Any]] = lambda facts: {}
    differing: Mapping[str, Any] = Factory(dict)


def attention_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    states = hidden_states(config)
    rotary = RotaryEmbedding(config.per_layer_config[1])
    tables = rotary(states, torch.arange(LENGTH)[None]) if config.rope else None
    return {
        "hidden_states": states,
        "position_embeddings": tables,
        "attention_mask": causal_mask(torch.float32),
        "position_ids": torch.arange(LENGTH)[None],
        "cache_slot": 0,
    }


def shared_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    sizes = config.per_layer_config[1]
    generator = torch.Generator().manual_seed(5)
    shape = (BATCH, sizes.num_key_value_heads, LENGTH)
    keys = torch.randn(*shape, sizes.head_dim, generator=generator)
    values = torch.randn(*shape, sizes.v_head_dim or sizes.head_dim, generator=generator)
    inputs = {name: value for name, value in attention_inputs(config).items() if name != "cache_slot"}
    return {**inputs, "shared_keys": keys, "shared_values": values}


def mask_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    sizes = config.per_layer_config[1]
    shape = (BATCH, sizes.num_key_value_heads, LENGTH, sizes.v_head_dim or sizes.head_dim)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    return {"value_states": values, "attention_mask": causal_mask(torch.float32), "query_length": LENGTH}


def latent_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    return {**attention_inputs(config), "index_mask": causal_mask(torch.float32, window=3)}


def indexer_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    q_latent = torch.randn(BATCH, LENGTH, config.per_layer_config[1].q_lora_rank, generator=generator)
    inputs = {name: value for name, value in attention_inputs(config).items() if name != "position_ids"}
    return {**inputs, "q_latent": q_latent}


def recurrent_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    mask = torch.ones(BATCH, LENGTH, dtype=torch.long)
    mask[1, :3] = 0
    return {"hidden_states": hidden_states(config), "attention_mask": mask, "cache_slot": 0}


def branch_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    states, generator = hidden_states(config), torch.Generator().manual_seed(5)
    count = config.per_layer_config[1].num_branches
    return {"hidden_states": states, "outputs": [torch.randn(states.shape, generator=generator) for _ in range(count)]}


def retention_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    return {**recurrent_inputs(config), "position_embeddings": attention_inputs(config)["position_embeddings"]}


def gate_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    def layer(states: torch.Tensor, attention_mask: torch.Tensor, cache_slot: int = 0, **rest: Any) -> torch.Tensor:
        return states + attention_mask.clamp(min=-1.0).sum(dim=-1).transpose(1, 2) * (1 + cache_slot)

    return {"layer": layer, "by_token": {}, "cache_slot": 1, **states_input(config), **square_mask()}


def square_mask() -> dict[str, Any]:
    return {"attention_mask": causal_mask(torch.float32)}


def expert_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    states = hidden_states(config).flatten(0, 1)
    logits = torch.randn(len(states), config.num_experts, generator=torch.Generator().manual_seed(2))
    weights, index = torch.topk(logits.softmax(dim=-1), config.num_experts_per_tok, dim=-1)
    states = states[:, : config.moe_latent_size]
    return {"hidden_states": states, "top_k_index": index, "top_k_weights": weights}


def states_input(config: PreTrainedConfig) -> dict[str, Any]:
    return {"hidden_states": hidden_states(config)}


def rotary_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    return {"x": hidden_states(config).bfloat16(), "position_ids": torch.arange(LENGTH)[None] + 3}


def nested_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    return {**rotary_inputs(config), "layer_type": "second"}


def nested_config(facts: Facts) -> dict[str, Any]:
    share = {"partial_rotary_factor": 0.5} if facts["partial_rotary"] else {}
    second = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0, **share}
    ropes = {"first": {"rope_type": "default", "rope_theta": 1e4}, "second": second}
    head_dims = {1: {"head_dim": 16}} if facts["rope_layers"] is not None else {}
    return {"rope_parameters": ropes, "per_layer_config": head_dims}


def rotary_config(facts: Facts) -> dict[str, Any]:
    share = {"partial_rotary_factor": 0.5} if facts["partial_rotary"] else {}
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, **share}}


def eager_slot(facts: Facts) -> dict[str, tuple[str, str]]:
    softcapped = facts["attn_logit_softcapping"] is not None
    name = "eager_softcapped_attention_forward" if softcapped else "eager_attention_forward"
    return {"eager_attention_forward": ("eager_attention", name)}


def untaken(facts: Facts) -> set[str]:
    """What attention does not take without a rope, and where its module runs once."""
    return {
        name
        for name, taken in (("position_embeddings", "rope"), ("cache_slot", "shared_module"))
        if not facts.get(taken, False)
    }


def taker_options_agree(facts: Facts) -> bool:
    """The same of layers that take their keys and values, where a width of values is no step of theirs."""
    makes_nothing = {"key_is_value": False, "value_bias": False, "dynamic_mask": False, "dynamic_mask_bias": False}
    narrow = {**facts, **makes_nothing, "v_head_dim": None}
    return options_agree(narrow) and (facts["v_head_dim"] is None or facts["gate_source"] != "query")


ATTENTION_FACTS: dict[str, tuple[Any, ...]] = {
    "attention_out_bias": FLAG,
    "rope": FLAG,
    "sliding_window": (None, 5),
    "attn_logit_softcapping": (None, 3.0),
    "attention_multiplier": (None, 0.3),
    "score_dtype": ("model", "float32"),
    "shared_module": FLAG,
}
OPTION_FACTS: dict[str, tuple[Any, ...]] = {
    "query_bias": FLAG,
    "key_bias": FLAG,
    "value_bias": FLAG,
    "qk_norm": (None, "head", "heads", "full"),
    "norm_after_rope": FLAG,
    "v_head_dim": (None, 12),
    "key_is_value": FLAG,
    "value_norm": FLAG,
    "output_norm": FLAG,
    "clip_qkv": (None, 0.4),
    "key_multiplier": (None, 1.5),
    "value_multiplier": (None, 0.5),
    "attention_sinks": (None, "learned", "zero"),
    "sink_placement": (None, "softmax", "gate"),
    "gate_source": (None, "projection", "query"),
    "gate_over": (None, "element", "head"),
    "gate_activation": (None, "sigmoid", "softplus"),
    "gate_bias": (None, "none", "gate", "head"),
    "gate_projection_bias": (None, False, True),
    "query_temperature": (None, "log", "shifted_log", "power"),
    "temperature_rounding": (None, "none", "dtype"),
    "stepwise_projections": FLAG,
    "dynamic_mask": FLAG,
    "dynamic_mask_bias": FLAG,
    "rope_negated": FLAG,
}
STEPS = ("v_head_dim", "key_is_value", "value_norm", "clip_qkv", "key_multiplier", "value_multiplier")


def options_agree(facts: Facts) -> bool:
    """What the definition of attention makes of legal specs."""
    gate = facts["gate_source"]
    steps = any(facts.get(name) for name in STEPS) or facts["qk_norm"] == "heads" or gate == "query"
    return (
        facts["stepwise_projections"] == steps
        and (facts["rope"] or not facts["rope_negated"])
        and (not facts["norm_after_rope"] or (facts["rope"] and facts["qk_norm"] == "head"))
        and not (facts["key_is_value"] and (facts["v_head_dim"] or facts["value_bias"]))
        and (facts["attention_sinks"] is None) == (facts["sink_placement"] is None)
        and (facts["query_temperature"] is None) == (facts["temperature_rounding"] is None)
        and (facts["dynamic_mask"] or not facts["dynamic_mask_bias"])
        and gates_agree(facts)
    )


def gates_agree(facts: Facts) -> bool:
    source, over, bias = facts["gate_source"], facts["gate_over"], facts["gate_bias"]
    own = facts["gate_projection_bias"]
    if source is None:
        return over is None and bias is None and own is None and facts["gate_activation"] is None
    return (
        None not in (over, bias, own, facts["gate_activation"])
        and own == (bias == "gate")
        and (bias != "head" or over == "element")
        and (source == "projection" or (over == "element" and bias != "gate" and facts["v_head_dim"] is None))
    )


LOGIT_ROUTER_FACTS: dict[str, tuple[Any, ...]] = {
    "router_score": ("softmax", "sigmoid", "sqrt_softplus"),
    "router_norm": (None, "guarded", "eps", "floor", "power"),
    "router_in_float32": FLAG,
    "router_scores_in_float32": FLAG,
    "router_weights_dtype": ("float32", "model"),
    "router_bias": FLAG,
    "router_logit_softcapping": (None, 2.0),
    "router_correction": FLAG,
    "routed_scaling_factor": (None, 2.5),
    "num_identity_experts": (None, 4),
}
ROUTER_FACTS: dict[str, tuple[Any, ...]] = LOGIT_ROUTER_FACTS | {
    "router_norm": (None, "sum", "guarded", "eps", "floor", "power"),
    "n_group": (None, 4),
    "group_score": ("top2", "max"),
    "hash_routing": FLAG,
}
EXPERT_FACTS: dict[str, tuple[Any, ...]] = {"expert_bias": FLAG, "moe_latent_size": (None, 12)}
CLAMP_FACTS: dict[str, tuple[Any, ...]] = {"swiglu_alpha": (None, 1.7), "swiglu_offset": FLAG}
SHAPED_FACTS = CLAMP_FACTS | {"swiglu_limit": (None, 0.3), "experts_in_float32": FLAG}
MLP_FACTS: dict[str, tuple[Any, ...]] = {
    "up_proj_bias": FLAG,
    "down_proj_bias": FLAG,
    "takes_intermediate_size": FLAG,
    "xielu": FLAG,
}
MIXTURE_FACTS: dict[str, tuple[Any, ...]] = {
    "num_identity_experts": (None, 4),
    "moe_latent_size": (None, 12),
    "weigh_expert_input": FLAG,
    "experts_scaling_factor": (None, 0.7),
    "shared_experts": FLAG,
    "shared_expert_gate": FLAG,
    "shared_experts_average": FLAG,
    "router_jitter_noise": (None, 0.3),
    "expert_capacity_factor": (None, 0.5),
    "experts_output_bias": FLAG,
    "router_input_norm": FLAG,
    "router_gain": FLAG,
    "expert_gain": FLAG,
    "expert_norm": FLAG,
}
INSIDE_MIXTURE: dict[str, tuple[Any, ...]] = {
    name: values[:1]
    for name, values in (ROUTER_FACTS | EXPERT_FACTS | MLP_FACTS | {"gate_proj_bias": FLAG}).items()
    if name not in MIXTURE_FACTS
} | {"takes_intermediate_size": (True,)}
NORMS = (
    ("rms_norm", "RMSNorm"),
    ("rms_norm", "Float32RMSNorm"),
    ("rms_norm", "UnitOffsetRMSNorm"),
    ("rms_norm", "UnweightedRMSNorm"),
    ("layer_norm", "Float32LayerNorm"),
    ("layer_norm", "BiaslessLayerNorm"),
    ("layer_norm", "UnweightedLayerNorm"),
    ("layer_norm", "UnitOffsetLayerNorm"),
    ("layer_norm", "StableLayerNorm"),
    ("layer_norm", "StableBiaslessLayerNorm"),
    ("layer_norm", "StableUnitOffsetLayerNorm"),
)
RMS_NORMS = tuple(pair for pair in NORMS if pair[0] == "rms_norm")
TEMPERATURES = tuple(("query_temperature", f"{form}_temperature") for form in ("log", "shifted_log", "power"))
LINKED = (
    *((component, name, {}) for component, name in NORMS),
    ("rms_norm", "GatedRMSNorm", {"rank": 6}),
    ("rms_norm", "GroupedRMSNorm", {"groups": 4}),
    ("stable_rms_norm", "StableGatedRMSNorm", {"rank": 6}),
    ("stable_rms_norm", "StableGroupedRMSNorm", {"groups": 4}),
    ("rms_norm_gated", "RMSNormGated", {"groups": 4}),
    ("rms_norm_gated", "RMSNormBeforeGate", {"groups": 2}),
)
"""Those that fill slots, and those that stand in layers only, with their sizes."""

INTERLEAVED = ("_interleaved", "_interleaved_float32", "_neighbours", "_neighbours_float32", "_deinterleaved")
ROTATIONS = tuple(("apply_rotary", f"apply_rotary_pos_emb{kind}") for kind in ("", "_float32", *INTERLEAVED))
QUERY_ROTATIONS = tuple(("query_rotary", f"rotate_queries{kind}") for kind in ("", "_partially", *INTERLEAVED[:4]))
PARTIAL_ROTATION = ("apply_partial_rotary", "apply_partial_rotary_pos_emb")


def clamps_agree(facts: Facts) -> bool:
    """What a clamp may have besides its limit stands with one."""
    return facts.get("swiglu_limit") is not None or not (facts.get("swiglu_alpha") or facts.get("swiglu_offset"))


def told_width(facts: Facts) -> set[str]:
    return {"layer_idx"} | (set() if facts["takes_intermediate_size"] else {"intermediate_size"})


def width_arguments(facts: Facts) -> dict[str, Any]:
    return {"layer_idx": 1, **({"intermediate_size": 40} if facts["takes_intermediate_size"] else {})}


def groups_are_scored(facts: Facts) -> bool:
    if facts["hash_routing"] and (facts["router_correction"] or facts["n_group"] is not None):
        return False
    return facts["n_group"] is not None or facts["group_score"] == "top2"


def router_inputs(config: PreTrainedConfig) -> dict[str, Any]:
    states = hidden_states(config)
    return {
        "hidden_states": states,
        "input_ids": torch.arange(states.shape[0] * states.shape[1]).view(states.shape[:2]),
    }


def without_ids(facts: Facts) -> set[str]:
    return set() if facts["hash_routing"] else {"input_ids"}


def latent_slots(facts: Facts) -> dict[str, tuple[str, str]]:
    rotates = facts["indexer"] == "own" and facts["rope"]
    rotation = {"apply_index_rotary_pos_emb": ("apply_rotary", "apply_rotary_pos_emb")} if rotates else {}
    return eager_slot(facts) | rotation


def latent_is_legal(facts: Facts) -> bool:
    return (
        (facts["rope"] or not (facts["rope_mscale"] or facts["rope_key_norm"]))
        and (facts["q_lora_rank"] is not None or not (facts["indexer"] == "own" or facts["latent_scales"] == "queries"))
        and (facts["latent_gate"] is not None or not facts["gate_in_float32"])
        and (facts["latent_gate"] is None) == (facts["latent_gate_source"] is None)
        and (facts["q_lora_rank"] is not None or facts["latent_gate_source"] != "queries")
        and (
            facts["query_input"] == "latent"
            or (facts["q_lora_rank"] is not None and facts["latent_norm"] and facts["latent_scales"] is None)
        )
        and (facts["sliding_window"] is None or facts["indexer"] is None)
        and (facts["indexer"] == "own" or not facts["hands_on"])
    )


CASES = (
    Case(
        "attention",
        "Attention",
        attention_inputs,
        ATTENTION_FACTS | OPTION_FACTS | {"hands_on": FLAG},
        slots={
            "QKNorm": RMS_NORMS,
            "ValueNorm": NORMS,
            "OutputNorm": NORMS,
            "apply_rotary_pos_emb": (*ROTATIONS, PARTIAL_ROTATION),
            "query_temperature": TEMPERATURES,
        },
        legal=options_agree,
        filled=eager_slot,
        dropped=untaken,
        differing={"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16},
    ),
    Case(
        "shared_attention",
        "SharedAttention",
        shared_inputs,
        {
            name: values
            for name, values in (ATTENTION_FACTS | OPTION_FACTS).items()
            if name not in (*MAKING_FACTS, "shared_module")
        },
        slots={
            "QKNorm": RMS_NORMS,
            "OutputNorm": NORMS,
            "rotate_queries": QUERY_ROTATIONS,
            "query_temperature": TEMPERATURES,
        },
        legal=taker_options_agree,
        filled=eager_slot,
        dropped=lambda facts: set() if facts["rope"] else {"position_embeddings"},
        differing={"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16},
    ),
    Case(
        "latent_attention",
        "LatentAttention",
        latent_inputs,
        ATTENTION_FACTS
        | {
            "attention_bias": FLAG,
            "rope_mscale": FLAG,
            "latent_norm": FLAG,
            "q_lora_rank": (None, 10),
            "latent_scales": (None, "latents", "queries"),
            "rope_key_norm": FLAG,
            "latent_gate": (None, "head", "element"),
            "gate_in_float32": (False, True, "product"),
            "latent_gate_source": (None, "stream", "queries"),
            "query_input": ("latent", "both"),
            "indexer": (None, "own", "shared"),
            "hands_on": FLAG,
        },
        slots={"LatentNorm": NORMS, "apply_rotary_pos_emb": ROTATIONS},
        legal=latent_is_legal,
        filled=latent_slots,
        dropped=lambda facts: untaken(facts) | (set() if facts["indexer"] == "shared" else {"index_mask"}),
        config=lambda facts: {"v_head_dim": 6, **({"rope_parameters": YARN} if facts["rope_mscale"] else {})},
        differing={"kv_lora_rank": 20, "v_head_dim": 12, "num_attention_heads": 2},
    ),
    Case(
        "differential_attention",
        "DifferentialAttention",
        attention_inputs,
        ATTENTION_FACTS | {"lambda_init": (None, 0.4)},
        slots={"DifferenceNorm": NORMS, "apply_rotary_pos_emb": ROTATIONS},
        filled=eager_slot,
        dropped=untaken,
        differing={"num_attention_heads": 2, "head_dim": 16},
    ),
    Case(
        "mixture_attention",
        "MixtureAttention",
        attention_inputs,
        ATTENTION_FACTS | {"qk_norm": (None, "head"), "norm_after_rope": FLAG, "attention_router_in_float32": FLAG},
        slots={"QKNorm": RMS_NORMS, "apply_rotary_pos_emb": ROTATIONS},
        legal=lambda facts: not facts["norm_after_rope"] or (facts["rope"] and facts["qk_norm"] is not None),
        filled=eager_slot,
        dropped=untaken,
        differing={"num_key_value_heads": 1, "head_dim": 16, "num_attention_experts_per_tok": 3},
    ),
    Case(
        "attention_router",
        "AttentionRouter",
        states_input,
        {"attention_router_in_float32": FLAG},
        dropped=lambda facts: {"layer_idx"},
        differing={"num_attention_experts": 12, "num_attention_experts_per_tok": 3},
    ),
    Case(
        "dynamic_mask",
        "DynamicMask",
        mask_inputs,
        {"dynamic_mask_bias": FLAG, "v_head_dim": (None, 12)},
        dropped=lambda facts: {"layer_idx"},
        differing={"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "keep_window_size": 3},
    ),
    Case(
        "indexer",
        "Indexer",
        indexer_inputs,
        {"rope": FLAG, "shared_module": FLAG},
        slots={"apply_index_rotary_pos_emb": ROTATIONS},
        dropped=untaken,
        config=lambda facts: {"q_lora_rank": 10},
        differing={"index_n_heads": 2, "index_topk": 3, "q_lora_rank": 12},
    ),
    Case(
        "short_conv",
        "ShortConv",
        recurrent_inputs,
        {"short_conv_bias": FLAG, "shared_module": FLAG},
        dropped=untaken,
        differing={"short_conv_kernel": 4},
    ),
    Case(
        "branch_selector",
        "BranchSelector",
        branch_inputs,
        {"selects": FLAG},
        differing={"num_branches": 4},
    ),
    Case(
        "retention",
        "Retention",
        retention_inputs,
        dict.fromkeys(("rope", "chunkwise", "shared_module"), FLAG),
        slots={"apply_rotary_pos_emb": (*ROTATIONS, PARTIAL_ROTATION)},
        dropped=untaken,
        config=lambda facts: {"v_head_dim": 12},
        differing={"num_attention_heads": 2, "v_head_dim": 6},
    ),
    Case(
        "mamba1",
        "MambaMixer",
        recurrent_inputs,
        dict.fromkeys(("mamba_conv_bias", "mamba_proj_bias", "mamba_state_norm", "shared_module"), FLAG),
        slots={"StateNorm": RMS_NORMS},
        dropped=untaken,
        differing={"mamba_d_ssm": 16, "mamba_d_state": 6, "mamba_dt_rank": 2, "mamba_d_conv": 3},
    ),
    Case(
        "mamba2",
        "Mamba2Mixer",
        recurrent_inputs,
        dict.fromkeys(
            ("mamba_conv_bias", "mamba_proj_bias", "mamba_rms_norm", "limits_time_step", "shared_module"), FLAG
        ),
        slots={
            "MixerNorm": (("rms_norm_gated", "RMSNormGated"), ("rms_norm_gated", "RMSNormBeforeGate")),
        },
        dropped=untaken,
        differing={"mamba_n_heads": 2, "mamba_d_state": 6, "mamba_chunk_size": 5},
    ),
    Case(
        "depth_gate",
        "DepthGate",
        gate_inputs,
        {"depth_router": ("top_k", "learned_gate"), "shared_module": FLAG},
        dropped=lambda facts: set() if facts["shared_module"] else {"cache_slot"},
        differing={"depth_capacity": 0.25, "depth_loss_coef": 0.5},
    ),
    Case(
        "gated_mlp",
        "GatedMLP",
        states_input,
        MLP_FACTS | {"gate_proj_bias": FLAG},
        dropped=told_width,
        arguments=width_arguments,
        differing={"intermediate_size": 80, "hidden_act": "gelu"},
    ),
    Case(
        "shaped_mlp",
        "ShapedMLP",
        states_input,
        MLP_FACTS
        | CLAMP_FACTS
        | {
            "gate_proj_bias": FLAG,
            "inner_norm": FLAG,
            "gate_multiplier": (None, 1.5),
            "down_multiplier": (None, 0.5),
            "mlp_in_float32": FLAG,
            "activation_sparsity": (None, 0.4),
            "swiglu_limit": (None, 0.3),
        },
        slots={"InnerNorm": NORMS},
        legal=clamps_agree,
        dropped=told_width,
        arguments=width_arguments,
        differing={"intermediate_size": 80, "hidden_act": "gelu"},
    ),
    Case(
        "mlp",
        "MLP",
        states_input,
        MLP_FACTS | {"inner_norm": FLAG},
        slots={"InnerNorm": NORMS},
        dropped=told_width,
        arguments=width_arguments,
        differing={"intermediate_size": 80, "hidden_act": "gelu"},
    ),
    Case(
        "router",
        "TopKRouter",
        router_inputs,
        ROUTER_FACTS,
        legal=groups_are_scored,
        dropped=lambda facts: {"layer_idx"} | without_ids(facts),
        differing={"num_experts": 12, "num_experts_per_tok": 2},
    ),
    Case(
        "sparse_mixer_router",
        "SparseMixerRouter",
        states_input,
        dropped=lambda facts: {"layer_idx"},
        config=lambda facts: {"num_experts_per_tok": 2},
        differing={"num_experts": 12},
    ),
    Case(
        "logit_router",
        "LogitRouter",
        states_input,
        LOGIT_ROUTER_FACTS,
        dropped=lambda facts: {"layer_idx"},
        differing={"num_experts": 12, "num_experts_per_tok": 2},
    ),
    *(
        Case(
            component,
            name,
            expert_inputs,
            EXPERT_FACTS | facts,
            legal=clamps_agree,
            dropped=lambda facts: {"layer_idx"},
            differing={"moe_intermediate_size": 40},
        )
        for component, name, facts in (
            ("experts", "GatedExperts", {}),
            ("shaped_experts", "ShapedExperts", SHAPED_FACTS),
            ("plain_experts", "PlainExperts", {}),
        )
    ),
    Case(
        "sparse_moe",
        "SparseMoe",
        states_input,
        INSIDE_MIXTURE | MIXTURE_FACTS,
        legal=lambda facts: (
            facts["shared_experts"] or not (facts["shared_expert_gate"] or facts["shared_experts_average"])
        ),
        slots={"RouterNorm": RMS_NORMS, "ExpertNorm": NORMS},
        dropped=without_ids,
        differing={"num_experts": 12, "moe_intermediate_size": 40, "shared_expert_intermediate_size": 8},
    ),
    Case(
        "rationales",
        "Rationales",
        lambda config: {"text_states": hidden_states(config), "thought_states": hidden_states(config, seed=2)},
        arguments=lambda facts: {},
    ),
    Case(
        "prediction_head",
        "PredictionHead",
        states_input,
        {"head_bias": FLAG, "head_norm": FLAG},
        slots={"HeadNorm": NORMS},
        arguments=lambda facts: {},
    ),
    *(
        Case("gain", name, states_input, dropped=lambda facts: {"layer_idx"})
        for name in ("ChannelGain", "ChannelAffine")
    ),
    Case("layer_scalar", "LayerScalar", states_input, arguments=lambda facts: {}),
    Case(
        "per_layer_input",
        "PerLayerInput",
        lambda config: {**states_input(config), "per_layer_input": hidden_states(config)[..., :6]},
        slots={"PerLayerNorm": NORMS},
        arguments=lambda facts: {},
    ),
    Case(
        "per_layer_embedding",
        "PerLayerEmbedding",
        lambda config: {**states_input(config), "input_ids": router_inputs(config)["input_ids"]},
        slots={"PerLayerNorm": NORMS},
        arguments=lambda facts: {},
        config=lambda facts: {"vocab_size": 30},
    ),
    *(
        Case(
            "shape_change",
            name,
            states_input,
            dropped=lambda facts: {"layer_idx"},
            config=lambda facts: {"output_size": 24},
            differing={"output_size": 40},
        )
        for name in ("LinearShapeChange", "MLPShapeChange")
    ),
    Case(
        "rotary_embedding",
        "RotaryEmbedding",
        rotary_inputs,
        {"partial_rotary": FLAG, "rope_in_float32": FLAG, "rope_neighbours": FLAG},
        arguments=lambda facts: {},
        config=rotary_config,
    ),
    Case(
        "nested_rotary_embedding",
        "NestedRotaryEmbedding",
        nested_inputs,
        {"partial_rotary": FLAG, "rope_in_float32": FLAG, "rope_layers": (None, {"first": 0, "second": 1})},
        arguments=lambda facts: {},
        config=nested_config,
    ),
)
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def legal_combinations(case: Case, dimensions: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """All legal combinations if they are few; else some that hold every legal pair of values, and a seeded sample."""
    if prod(map(len, dimensions.values())) <= PRODUCTS:
        rows = [dict(zip(dimensions, row, strict=True)) for row in product(*dimensions.values())]
        rows = [row for row in rows if case.legal(row)]
        random.Random(0).shuffle(rows)
        if len(rows) <= EXHAUSTIVE:
            yield from rows
            return
    else:
        rows = drawn_rows(case, dimensions)
    yield from rows[:SAMPLE]
    seen: set[frozenset[tuple[str, str]]] = set()
    for row in rows[SAMPLE:]:
        pairs = {frozenset(pair) for pair in combinations(((key, repr(value)) for key, value in row.items()), 2)}
        if pairs - seen:
            seen |= pairs
            yield row


def drawn_rows(case: Case, dimensions: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Distinct legal rows of a space too large to list: a seeded walk that changes a few values at a time."""
    generator = random.Random(0)
    row = {name: values[0] for name, values in dimensions.items()}
    rows: dict[str, dict[str, Any]] = {}
    for _ in range(DRAWS):
        changed = generator.sample(list(dimensions), generator.randint(1, 6))
        candidate = row | {name: generator.choice(list(dimensions[name])) for name in changed}
        if case.legal(candidate):
            row = candidate
            rows.setdefault(repr(row), row)
    found = list(rows.values())
    generator.shuffle(found)
    return found


@EVERY_CASE
def test_specialised_equals_generic_for_every_combination_of_facts(case, monkeypatch):
    texts = set()
    tried = list(legal_combinations(case, case.facts))
    for facts in tried:
        text = specialised_text(case, facts, case.filled(facts))
        assert_equal(case, facts, text, case.filled(facts), monkeypatch)
        texts.add(text)
    assert len(texts) == len(tried), "a fact changes nothing"


@pytest.mark.parametrize("case", [case for case in CASES if case.slots], ids=lambda case: case.name)
def test_specialised_equals_generic_for_every_filling_of_the_slots(case, monkeypatch):
    for combination in legal_combinations(case, {**case.facts, **case.slots}):
        facts = {name: value for name, value in combination.items() if name in case.facts}
        slots = case.filled(facts) | {name: combination[name] for name in case.slots}
        assert_equal(case, facts, specialised_text(case, facts, slots), slots, monkeypatch)


@pytest.mark.parametrize("case", [case for case in CASES if case.differing], ids=lambda case: case.name)
def test_specialised_equals_generic_where_sizes_differ_between_layers(case, monkeypatch):
    per_layer = frozenset(case.differing)
    for facts in list(legal_combinations(case, case.facts))[:SAMPLE]:
        text = specialised_text(case, facts, case.filled(facts), per_layer)
        assert "sizes = config.per_layer_config[layer_idx]" in text
        assert_equal(case, facts, text, case.filled(facts), monkeypatch, per_layer_config={1: dict(case.differing)})


@pytest.mark.parametrize("norm", LINKED, ids=[name for _, name, _ in LINKED])
def test_linked_norm_equals_the_importable_one(norm):
    component, name, sizes = norm
    generic = perturb(getattr(module_of(component), name)(32, **sizes, eps=1e-3))
    linked = perturb(executed(text_of([Request(component, (name,))]))[name](32, **sizes, eps=1e-3))
    states = (hidden_states(component_config()),) * len(inspect.signature(generic.forward).parameters)
    assert torch.equal(linked(*states), generic(*states))
    halves = tuple(states_of_one.bfloat16() for states_of_one in states)
    assert torch.equal(linked(*halves), generic(*halves))


def test_linked_activation_equals_the_importable_one():
    generic = perturb(XIELU())
    linked = perturb(executed(text_of([Request("xielu", ("XIELU",))]))["XIELU"]())
    states = hidden_states(component_config())
    assert torch.equal(linked(states), generic(states))


def test_linked_router_of_depth_equals_the_importable_one():
    config = component_config()
    numbers = (config.hidden_size, config.depth_capacity, config.depth_loss_coef)
    generic = perturb(DepthRouter(*numbers))
    linked = perturb(executed(text_of([Request("depth_router", ("DepthRouter",))]))["DepthRouter"](*numbers))
    states = hidden_states(config)
    for mask in ({}, square_mask()):
        assert all(map(torch.equal, linked(states, **mask), generic(states, **mask)))


def test_every_component_class_is_tried():
    tried = {case.name for case in CASES} | {name for _, name, _ in LINKED} | {"XIELU", "DepthRouter"}
    modules = [module_of(path.stem) for path in FOLDER.glob("[a-z]*.py")]
    classes = {
        name
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    }
    assert classes == tried


def module_of(component: str) -> ModuleType:
    return import_module(f"{components.__name__}.{component}")


def specialised_text(
    case: Case,
    facts: Facts,
    slots: Mapping[str, tuple[str, str]],
    per_layer: frozenset[str] = frozenset(),
) -> str:
    """The text of the component, under another name, specialised and linked with what fills its slots."""
    dropped = case.dropped(facts) - ({"layer_idx"} if per_layer else set())
    request = Request(
        component=case.component,
        names=(case.name,),
        facts={name: decided(name, value) for name, value in facts.items()},
        slots={slot: name for slot, (_, name) in slots.items()},
        rename={case.name: f"Own{case.name}"},
        drop_parameters=frozenset(dropped),
        per_layer=per_layer,
    )
    fillings = [Request(component, (name,), facts=EAGER_DEFAULTS | facts) for component, name in slots.values()]
    return text_of([*fillings, request])


def decided(name: str, value: Any) -> Any:
    """A fact as the specialiser takes it: of an optional size only the presence counts."""
    if name not in PRESENCE:
        return value
    return None if value is None else PRESENT


EAGER_DEFAULTS: Facts = {"sink_placement": None, "score_dtype": "model"}


def text_of(requests: Sequence[Request]) -> str:
    linked = link(requests, FOLDER)
    return "\n\n\n".join((linked.imports.render(), *(item.text for item in linked.definitions))) + "\n"


def executed(text: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "generated"}
    exec(compile(text, "<generated>", "exec"), namespace)
    return namespace


def assert_equal(
    case: Case,
    facts: Facts,
    text: str,
    slots: Mapping[str, tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    **more: Any,
) -> None:
    """One set of weights in both forms: the same outputs in evaluation and in training, the same attention call."""
    module = module_of(case.component)
    own = {slot: getattr(module_of(stem), name) for slot, (stem, name) in slots.items() if hasattr(module, slot)}
    fill_slots(monkeypatch, module, **own)
    config = component_config(**{**facts, **case.config(facts), **more})
    arguments, inputs = case.arguments(facts), case.inputs(config)
    generic = perturb(getattr(module, case.name)(config, **arguments))
    own_class = executed(text)[f"Own{case.name}"]
    specialised = own_class(config, **known(arguments, own_class.__init__))
    specialised.load_state_dict(generic.state_dict())
    own_inputs = known(inputs, own_class.forward)
    for training in (False, True):
        ours, theirs = (
            run(each.train(training), given) for each, given in ((specialised, own_inputs), (generic, inputs))
        )
        assert len(ours) == len(theirs)
        assert all(map(torch.equal, ours, theirs)), facts
        assert [tensor.dtype for tensor in ours] == [tensor.dtype for tensor in theirs]
    assert attention_call(specialised, own_inputs) == attention_call(generic, inputs), facts


def known(arguments: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments that a function takes: specialising drops parameters that nothing reads."""
    parameters = inspect.signature(function).parameters
    through = {"position_ids"} if "kwargs" in parameters else set()
    return {name: value for name, value in arguments.items() if name in parameters or name in through}


def takes_cache(module: nn.Module) -> bool:
    return "past_key_values" in inspect.signature(module.forward).parameters


def holds_states(layer: Any) -> bool:
    return any(getattr(layer, "is_recurrent_states_initialized", {}).values())


@torch.no_grad()
def run(module: nn.Module, inputs: Mapping[str, Any]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    mask = inputs.get("attention_mask")
    kind = LinearAttentionLayer if mask is not None and mask.dim() == 2 else DynamicIndexedLayer
    layers = [kind(), kind()]
    cache = {"past_key_values": Cache(layers=layers)} if takes_cache(module) else {}
    output = module(**inputs, **cache)
    written = torch.tensor([getattr(layer, "is_initialized", False) or holds_states(layer) for layer in layers])
    return [item for item in (*(output if isinstance(output, tuple) else (output,)), written) if item is not None]


@torch.no_grad()
def attention_call(module: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What an attention module hands to another interface than the eager one, besides tensors."""
    seen: dict[str, Any] = {}

    def interface(module: nn.Module, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> tuple[Any, None]:
        seen.update({name: shown(option) for name, option in options.items() if option is not None})
        return value.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1]), None

    def shown(option: Any) -> Any:
        return option.tolist() if isinstance(option, torch.Tensor) else option

    if hasattr(module, "is_causal"):
        ALL_ATTENTION_FUNCTIONS["recording"] = interface
        module.config._attn_implementation = "recording"
        module(**inputs)
        module.config._attn_implementation = "eager"
    return seen
