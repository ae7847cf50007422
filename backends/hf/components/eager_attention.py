"""Attention in plain torch: what `attn_implementation="eager"` runs."""

import torch
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs


def repeat_kv(hidden_states: torch.Tensor, n_rep: int) -> torch.Tensor:
    """Repeats each key/value head for its group: (batch, kv heads, length, dim) -> (batch, heads, length, dim)."""
    batch, num_key_value_heads, slen, head_dim = hidden_states.shape
    if n_rep == 1:
        return hidden_states
    hidden_states = hidden_states[:, :, None, :, :].expand(batch, num_key_value_heads, n_rep, slen, head_dim)
    return hidden_states.reshape(batch, num_key_value_heads * n_rep, slen, head_dim)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention; returns (batch, length, heads, dim) and the weights (batch, heads, length, key length)."""
    key_states = repeat_kv(key, query.shape[1] // key.shape[1])
    value_states = repeat_kv(value, query.shape[1] // value.shape[1])

    if module.config.score_dtype == "float32":
        attn_weights = torch.matmul(query.float(), key_states.float().transpose(2, 3)) * scaling
    else:
        attn_weights = torch.matmul(query, key_states.transpose(2, 3)) * scaling
    if attention_mask is not None:
        attn_weights = attn_weights + attention_mask

    if module.config.sink_placement == "softmax":
        sinks = module.sinks.reshape(1, -1, 1, 1).expand(*attn_weights.shape[:-1], 1)
        attn_weights = torch.cat((attn_weights, sinks), dim=-1)
        # Without the maximum, narrow dtypes would overflow
        attn_weights = attn_weights - attn_weights.max(dim=-1, keepdim=True).values
        attn_weights = nn.functional.softmax(attn_weights, dim=-1, dtype=attn_weights.dtype)[..., :-1]
        attn_weights = attn_weights.to(query.dtype)
    else:
        if module.config.sink_placement == "gate":
            sink_scale = torch.logsumexp(attn_weights, dim=-1, keepdim=True) - module.sinks.view(1, -1, 1, 1)
            sink_scale = sink_scale.float().sigmoid()
        attn_weights = nn.functional.softmax(attn_weights, dim=-1, dtype=torch.float32).to(query.dtype)
    attn_weights = nn.functional.dropout(attn_weights, p=dropout, training=module.training)
    attn_output = torch.matmul(attn_weights, value_states)
    if module.config.sink_placement == "gate":
        attn_output = attn_output * sink_scale.to(attn_output.dtype)
    attn_output = attn_output.transpose(1, 2).contiguous()
    return attn_output, attn_weights


def eager_softcapped_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    softcap: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention whose scores pass through softcap * tanh(scores / softcap) (Gemma 2)."""
    key_states = repeat_kv(key, query.shape[1] // key.shape[1])
    value_states = repeat_kv(value, query.shape[1] // value.shape[1])

    if module.config.score_dtype == "float32":
        attn_weights = torch.matmul(query.float(), key_states.float().transpose(2, 3)) * scaling
    else:
        attn_weights = torch.matmul(query, key_states.transpose(2, 3)) * scaling
    attn_weights = torch.tanh(attn_weights / softcap) * softcap
    if attention_mask is not None:
        attn_weights = attn_weights + attention_mask

    if module.config.sink_placement == "softmax":
        sinks = module.sinks.reshape(1, -1, 1, 1).expand(*attn_weights.shape[:-1], 1)
        attn_weights = torch.cat((attn_weights, sinks), dim=-1)
        # Without the maximum, narrow dtypes would overflow
        attn_weights = attn_weights - attn_weights.max(dim=-1, keepdim=True).values
        attn_weights = nn.functional.softmax(attn_weights, dim=-1, dtype=attn_weights.dtype)[..., :-1]
        attn_weights = attn_weights.to(query.dtype)
    else:
        if module.config.sink_placement == "gate":
            sink_scale = torch.logsumexp(attn_weights, dim=-1, keepdim=True) - module.sinks.view(1, -1, 1, 1)
            sink_scale = sink_scale.float().sigmoid()
        attn_weights = nn.functional.softmax(attn_weights, dim=-1, dtype=torch.float32).to(query.dtype)
    attn_weights = nn.functional.dropout(attn_weights, p=dropout, training=module.training)
    attn_output = torch.matmul(attn_weights, value_states)
    if module.config.sink_placement == "gate":
        attn_output = attn_output * sink_scale.to(attn_output.dtype)
    attn_output = attn_output.transpose(1, 2).contiguous()
    return attn_output, attn_weights
