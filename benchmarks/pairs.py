"""The models that are compared: a spec beside it, and the library's config of the same architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from attrs import field, frozen

from eulerc.api import build

SPECS = Path(__file__).parent / "specs"

SIZES: dict[str, Any] = {
    "vocab_size": 4096,
    "max_position_embeddings": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
}


@frozen
class Pair:
    """An architecture.

    `training` holds arguments that make both sides compute the same losses, `attentions` what it can run with.
    """

    name: str
    config: str
    sizes: dict[str, Any]
    training: dict[str, Any] = field(factory=dict)
    attentions: tuple[str, ...] = ("sdpa", "eager")


PAIRS = (
    Pair(
        "llama",
        "LlamaConfig",
        {
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "rms_norm_eps": 1e-6,
        },
    ),
    Pair(
        "gemma2",
        "Gemma2Config",
        {
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "query_pre_attn_scalar": 64,
            "sliding_window": 64,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        # Scores with a soft cap need the eager function
        attentions=("eager",),
    ),
    Pair(
        "cohere2",
        "Cohere2Config",
        {
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "sliding_window": 64,
            "layer_norm_eps": 1e-5,
            "layer_types": [*["sliding_attention"] * 3, "full_attention"] * 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "pad_token_id": None,
        },
    ),
    Pair(
        "olmo2",
        "Olmo2Config",
        {
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "pad_token_id": None,
        },
    ),
    Pair(
        "mixtral",
        "MixtralConfig",
        {
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "rms_norm_eps": 1e-5,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "router_aux_loss_coef": 0.02,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        training={"output_router_logits": True},
    ),
    Pair(
        "deepseek_v3",
        "DeepseekV3Config",
        {
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "kv_lora_rank": 64,
            "q_lora_rank": 128,
            "qk_nope_head_dim": 64,
            "qk_rope_head_dim": 32,
            "v_head_dim": 64,
            "first_k_dense_replace": 1,
            "n_routed_experts": 16,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 192,
            "n_shared_experts": 1,
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 2.5,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
)


def both(pair: Pair, directory: Path, attention: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The generated model, built into `directory` and loaded as a user would, and the library's, with its weights."""
    if not directory.exists():
        build(SPECS / f"{pair.name}.yaml", directory, weights="none", tokenizer=False)
    theirs_config = getattr(transformers, pair.config)(**SIZES, **pair.sizes)
    ours_config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=True)
    torch.manual_seed(0)
    options: dict[str, Any] = {"attn_implementation": attention, "dtype": dtype}
    theirs = transformers.AutoModelForCausalLM.from_config(theirs_config, **options)
    ours = transformers.AutoModelForCausalLM.from_config(ours_config, trust_remote_code=True, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs
