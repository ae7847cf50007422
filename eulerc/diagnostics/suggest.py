"""What was meant: the nearest name by spelling, and the names that other projects use for ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

FOREIGN_NAMES: dict[str, str] = {
    # transformers
    "num_key_value_heads": "n_kv_heads",
    "num_attention_heads": "n_heads",
    "hidden_size": "d_model",
    "num_hidden_layers": "layer_schedule",
    "max_position_embeddings": "max_seq_len",
    "rms_norm_eps": "norm_eps",
    "layer_norm_eps": "norm_eps",
    "layer_norm_epsilon": "norm_eps",
    "layernorm_epsilon": "norm_eps",
    "norm_epsilon": "norm_eps",
    "ffn_dim": "intermediate_size",
    "hidden_act": "activation",
    "activation_function": "activation",
    "hidden_activation": "activation",
    "mlp_bias": "bias",
    "sliding_window": "window",
    "attention_window": "window",
    "attention_bias": "qkv_bias",
    "use_qkv_bias": "qkv_bias",
    "attention_dropout": "attn_drop",
    "attn_pdrop": "attn_drop",
    "resid_pdrop": "dropout",
    "embd_pdrop": "dropout",
    "hidden_dropout": "dropout",
    "rope_parameters": "rope_scaling",
    "rope_base": "rope_theta",
    "rope_type": "type",
    "tie_embeddings": "tie_word_embeddings",
    "torch_dtype": "dtype",
    "model_type": "family_hint",
    "initializer_range": "init",
    "embedding_multiplier": "scale",
    "final_logit_softcapping": "logit_softcap",
    "num_nextn_predict_layers": "n_predict",
    "gradient_checkpointing": "checkpointing",
    "learning_rate": "lr_peak",
    "max_grad_norm": "grad_clip",
    "warmup_ratio": "warmup_steps_ratio",
    "tokenizer": "tokenizer_contract",
    # latent attention
    "kv_lora_rank": "kv_rank",
    "q_lora_rank": "q_rank",
    "qk_nope_head_dim": "nope_dim",
    "qk_rope_head_dim": "rope_dim",
    # mixtures of experts
    "num_local_experts": "experts",
    "num_experts": "experts",
    "n_routed_experts": "experts",
    "moe_num_experts": "experts",
    "num_experts_per_tok": "top_k",
    "num_experts_per_token": "top_k",
    "moe_top_k": "top_k",
    "n_shared_experts": "shared_experts",
    "num_shared_experts": "shared_experts",
    "scoring_func": "router",
    "router_z_loss_coef": "z_loss",
    "router_jitter_noise": "router_jitter",
    "aux_loss_alpha": "load_balance_coef",
    "topk_group": "group_limit",
    "first_k_dense_replace": "layer_schedule",
    # recurrent mixers
    "ssm_state_size": "d_state",
    "state_size": "d_state",
    "mamba_d_state": "d_state",
    "conv_kernel": "d_conv",
    "mamba_d_conv": "d_conv",
    "mamba_expand": "expand",
    # GPT-2 and its descendants
    "n_head": "n_heads",
    "n_head_kv": "n_kv_heads",
    "num_heads": "n_heads",
    "num_kv_heads": "n_kv_heads",
    "kv_heads": "n_kv_heads",
    "multi_query_group_num": "n_kv_heads",
    "n_embd": "d_model",
    "n_embed": "d_model",
    "n_layer": "layer_schedule",
    "n_positions": "max_seq_len",
    "n_ctx": "max_seq_len",
    "block_size": "max_seq_len",
    "n_inner": "intermediate_size",
    # Llama's own code and llama.cpp
    "dim": "d_model",
    "n_layers": "layer_schedule",
    "context_length": "max_seq_len",
    "embedding_length": "d_model",
    "feed_forward_length": "intermediate_size",
    "hidden_dim": "intermediate_size",
    "block_count": "layer_schedule",
    "head_count": "n_heads",
    "head_count_kv": "n_kv_heads",
    "key_length": "head_dim",
    "expert_count": "experts",
    "expert_used_count": "top_k",
    "expert_shared_count": "shared_experts",
    "layer_norm_rms_epsilon": "norm_eps",
    "freq_base": "rope_theta",
    # Megatron
    "num_layers": "layer_schedule",
    "num_query_groups": "n_kv_heads",
    "kv_channels": "head_dim",
    "ffn_hidden_size": "intermediate_size",
    "seq_length": "max_seq_len",
    "rotary_base": "rope_theta",
    "num_moe_experts": "experts",
    "moe_router_topk": "top_k",
    "moe_aux_loss_coeff": "load_balance_coef",
    "moe_z_loss_coeff": "z_loss",
    "add_qkv_bias": "qkv_bias",
}
"""Names of other projects -> our key."""

_LONGEST_NAME = 64
_SHORTEST_PART = 3


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that is most likely meant by `name`, or None when all are too far.

    Distance counts insertions, deletions, replacements and swaps of neighbours; case and `-` for `_` count nothing.
    One edit in three characters is allowed, none in names of one or two. Of equals the first wins. Where no spelling is
    near, a name of three letters or more may be the beginning of just one candidate, or a word of it.
    """
    wanted = _folded(name)
    limit = len(wanted) // 3
    if not 0 < len(wanted) <= _LONGEST_NAME:
        return None
    best, known = None, tuple(candidates)
    for candidate in known:
        if abs(len(candidate) - len(wanted)) > limit:
            continue
        distance = _distance(wanted, _folded(candidate))
        if distance <= limit:
            best, limit = candidate, distance - 1
    return best or _holding(wanted, known)


def _holding(wanted: str, candidates: Sequence[str]) -> str | None:
    """The one candidate that begins with a name, or else the one of which it is a word."""
    if len(wanted) < _SHORTEST_PART:
        return None
    for holds in (str.startswith, lambda candidate, part: part in candidate.split("_")):
        holding = [candidate for candidate in candidates if holds(_folded(candidate), wanted)]
        if len(holding) == 1:
            return holding[0]
    return None


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")


def _distance(left: str, right: str) -> int:
    """The optimal string alignment distance."""
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for row, letter in enumerate(left, 1):
        current = [row]
        for column, other in enumerate(right, 1):
            best = min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (letter != other))
            if row > 1 and column > 1 and letter == right[column - 2] and left[row - 2] == other:
                best = min(best, before[column - 2] + 1)
            current.append(best)
        before, previous = previous, current
    return previous[-1]


def foreign(name: str) -> str | None:
    """Our key for what other projects call `name`, or None."""
    return FOREIGN_NAMES.get(_folded(name))


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """A help line for an unknown `name` where `candidates` are known; None when there is nothing to say.

    A known foreign name comes first, since spelling would send `n_layer` to the wrong place.
    """
    known = list(candidates)
    ours = foreign(name)
    if ours == "layer_schedule":
        return "the number of layers is the sum of `repeat` over layer_schedule"
    if ours is not None and ours in known:
        return f"`{name}` is called `{ours}` here"
    near = closest(name, known)
    if near is not None:
        return f"did you mean `{near}`?"
    return f"`{name}` is called `{ours}` in this language, which is no key of this block" if ours is not None else None
