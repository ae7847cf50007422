"""Slow and plain forms of the components: loops over tokens, heads and experts, as the papers write them."""

from __future__ import annotations

import torch
from torch import nn


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
) -> torch.Tensor:
    """Causal attention, one query at a time: query (heads, length, dim), key and value with a head per group."""
    heads, length, _ = query.shape
    group = heads // key.shape[0]
    output = torch.zeros(heads, length, value.shape[-1])
    for head in range(heads):
        for now in range(length):
            first = 0 if window is None else max(0, now - window + 1)
            scores = key[head // group, first : now + 1] @ query[head, now] * scaling
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            output[head, now] = torch.softmax(scores, dim=0) @ value[head // group, first : now + 1]
    return output


def rotate(states: torch.Tensor, theta: float, width: int) -> torch.Tensor:
    """Rotates the first `width` dims of (heads, length, dim) pair by pair, dims i and i + width / 2 being a pair."""
    rotated = states.clone()
    for position in range(states.shape[1]):
        for pair in range(width // 2):
            angle = torch.tensor(position * theta ** (-2 * pair / width))
            first, second = states[:, position, pair], states[:, position, pair + width // 2]
            rotated[:, position, pair] = first * angle.cos() - second * angle.sin()
            rotated[:, position, pair + width // 2] = second * angle.cos() + first * angle.sin()
    return rotated


def attention(
    module: nn.Module,
    hidden_states: torch.Tensor,
    rotary_width: int,
    maker: nn.Module | None = None,
    earlier_states: torch.Tensor | None = None,
) -> torch.Tensor:
    """What Attention computes for one sequence (length, hidden), by loops.

    What SharedAttention computes, if `maker` is the module that has made keys and values, from `earlier_states`.
    """

    def heads(states: torch.Tensor) -> torch.Tensor:
        return states.view(len(states), -1, module.head_dim).transpose(0, 1)

    maker = module if maker is None else maker
    source = hidden_states if earlier_states is None else earlier_states
    query, key = heads(module.q_proj(hidden_states)), heads(maker.k_proj(source))
    if rotary_width:
        query, key = rotate(query, 10_000.0, rotary_width), rotate(key, 10_000.0, rotary_width)
    output = attend(query, key, heads(maker.v_proj(source)), module.scaling, module.config.sliding_window)
    return module.o_proj(output.transpose(0, 1).flatten(1))


def latent_attention(module: nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    """What LatentAttention computes for one sequence without rope, by loops."""
    length = len(hidden_states)
    query = module.q_proj(hidden_states).view(length, -1, module.qk_head_dim).transpose(0, 1)
    latent = module.kv_a_layernorm(module.kv_a_proj_with_mqa(hidden_states))
    expanded = module.kv_b_proj(latent).view(length, -1, module.qk_nope_head_dim + module.v_head_dim).transpose(0, 1)
    key, value = expanded.split([module.qk_nope_head_dim, module.v_head_dim], dim=-1)
    output = attend(query, key, value, module.scaling)
    return module.o_proj(output.transpose(0, 1).flatten(1))


def experts(
    module: nn.Module,
    hidden_states: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
) -> torch.Tensor:
    """What GatedExperts computes, token by token."""
    outputs = []
    for token, chosen, weights in zip(hidden_states, top_k_index.tolist(), top_k_weights, strict=True):
        output = torch.zeros_like(token)
        for expert, weight in zip(chosen, weights, strict=True):
            gate, up = (module.gate_up_proj[expert] @ token).chunk(2)
            output = output + weight * (module.down_proj[expert] @ (module.act_fn(gate) * up))
        outputs.append(output)
    return torch.stack(outputs)


def choose_experts(scores: list[float], choice: list[float], top_k: int, groups: int, kept_groups: int) -> set[int]:
    """The experts of one token: the best groups by the sum of their two best scores, then the best experts in them."""
    size = len(scores) // groups
    members = [range(group * size, (group + 1) * size) for group in range(groups)]
    worth = [sum(sorted((choice[expert] for expert in group), reverse=True)[:2]) for group in members]
    best = sorted(range(groups), key=lambda group: -worth[group])[:kept_groups]
    allowed = [expert for group in best for expert in members[group]]
    return set(sorted(allowed, key=lambda expert: -choice[expert])[:top_k])
