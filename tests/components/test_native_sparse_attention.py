"""Native Sparse Attention is what its paper says, query by query (Yuan et al. 2025, arXiv:2502.11089)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig

from eulerc.backends.hf.components.apply_rotary import rotate_half
from eulerc.backends.hf.components.native_sparse_attention import NativeSparseAttention
from eulerc.backends.hf.components.rotary_embedding import RotaryEmbedding
from tests.components.harness import component_config, hidden_states, perturb

HEADS, GROUPS, WIDTH = 4, 2, 8
"""Query heads, heads of keys, width of a head."""

SIZES = {
    "overlapping, larger selections": {"compress_block_size": 4, "compress_stride": 2, "select_block_size": 8},
    "three strides to a block": {"compress_block_size": 6, "compress_stride": 2, "select_block_size": 6},
    "side by side": {"compress_block_size": 3, "compress_stride": 3, "select_block_size": 6},
    "one token a stride": {"compress_block_size": 2, "compress_stride": 1, "select_block_size": 4},
}
LENGTHS = (1, 2, 3, 4, 5, 8, 9, 16, 31)


def blocks_of(states: torch.Tensor, weights: nn.Module, config: PreTrainedConfig, pool: str) -> list[torch.Tensor]:
    """Eq. 7 for one head: a key for the tokens i * d + 1 to i * d + l, for i from 0 to (t - l) / d."""
    size, stride = config.compress_block_size, config.compress_stride
    keys = weights.kv_proj(states).view(len(states), GROUPS, WIDTH)
    made = []
    for start in range(0, len(states) - size + 1, stride):
        block = keys[start : start + size]
        if pool == "learned_pool":
            placed = block + weights.pool.position_bias.view(size, GROUPS, WIDTH)
            inner = nn.functional.gelu(placed.transpose(0, 1).reshape(GROUPS, -1) @ weights.pool.in_proj.weight.T)
            made.append(inner @ weights.pool.out_proj.weight.T)
        elif pool == "softmax_gated":
            gates = weights.gate_proj(states)[start : start + size] + weights.pool.position_bias
            made.append((block * gates.softmax(dim=0).view(size, GROUPS, WIDTH)).sum(dim=0))
        else:
            made.append(block.mean(dim=0) if pool == "mean" else block.amax(dim=0))
    return made


def rotated(vector: torch.Tensor, tables: tuple[torch.Tensor, torch.Tensor], position: int) -> torch.Tensor:
    cos, sin = (table[0, position] for table in tables)
    return vector * cos + rotate_half(vector) * sin


def attend(query: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor]) -> torch.Tensor:
    """Eq. 1 for one query."""
    weights = torch.stack([query @ key / math.sqrt(WIDTH) for key in keys]).softmax(dim=0)
    return sum((weight * value for weight, value in zip(weights, values, strict=True)), torch.zeros(WIDTH))


def importance(weights: torch.Tensor, blocks: int, config: PreTrainedConfig) -> list[float]:
    """Eq. 9, whose blocks count from 1: the sum over m and n of p[j * l' / d - m - n]."""
    size, stride, selected = config.compress_block_size, config.compress_stride, config.select_block_size
    scores = []
    for j in range(1, blocks + 1):
        places = [selected // stride * j - m - n for m in range(selected // stride) for n in range(size // stride)]
        scores.append(sum(float(weights[place - 1]) for place in places if 1 <= place <= len(weights)))
    return scores


def chosen(scores: list[float], own: int, count: int) -> list[int]:
    """Eq. 11; the first block and two local ones are always among them (section 3.3.2)."""
    always = {0, own, max(own - 1, 0)}
    others = sorted((block for block in range(own + 1) if block not in always), key=lambda block: -scores[block])
    return sorted(always | set(others[: max(count - len(always), 0)]))


def by_the_paper(
    module: NativeSparseAttention, config: PreTrainedConfig, states: torch.Tensor, pool: str
) -> torch.Tensor:
    """One sequence (length, hidden size), token by token."""
    length = len(states)
    tables = RotaryEmbedding(config)(states[None], torch.arange(length)[None])
    queries = module.q_proj(states).view(length, HEADS, WIDTH)
    keys = module.k_proj(states).view(length, 2, GROUPS, WIDTH)
    values = module.v_proj(states).view(length, 2, GROUPS, WIDTH)
    gates = torch.sigmoid(module.gate_proj(states)).view(length, 3, HEADS)
    size = config.select_block_size
    outputs = []
    for t in range(length):
        block_keys = blocks_of(states[: t + 1], module.k_compressor, config, pool)
        block_values = blocks_of(states[: t + 1], module.v_compressor, config, pool)
        row = []
        for group in range(GROUPS):
            of_group = range(group * HEADS // GROUPS, (group + 1) * HEADS // GROUPS)
            own_keys, own_values = [key[group] for key in block_keys], [value[group] for value in block_values]
            total = torch.zeros(len(block_keys))
            for head in of_group:
                if block_keys:
                    logits = torch.stack([queries[t, head] @ key / math.sqrt(WIDTH) for key in own_keys])
                    total += logits.softmax(dim=0)  # eq. 8, summed as in eq. 10
            scores = importance(total, t // size + 1, config)
            blocks = chosen(scores, t // size, config.index_topk)
            selected = [s for block in blocks for s in range(block * size, min((block + 1) * size, t + 1))]  # eq. 12
            window = range(max(0, t - config.sparse_window + 1), t + 1)
            for head in of_group:
                query = rotated(queries[t, head], tables, t)
                parts = [attend(queries[t, head], own_keys, own_values) if own_keys else torch.zeros(WIDTH)]
                for branch, tokens in ((0, selected), (1, window)):
                    seen = [rotated(keys[s, branch, group], tables, s) for s in tokens]
                    parts.append(attend(query, seen, [values[s, branch, group] for s in tokens]))
                row.append(sum(gate * part for gate, part in zip(gates[t, :, head], parts, strict=True)))  # eq. 5
        outputs.append(torch.cat(row))
    return module.o_proj(torch.stack(outputs))


@pytest.mark.parametrize("pool", ["learned_pool", "softmax_gated", "mean", "max"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_native_sparse_attention_follows_its_equations(sizes: dict[str, int], pool: str) -> None:
    config = component_config(pool=pool, keeps_blocks=True, index_topk=4, **sizes)
    module = NativeSparseAttention(config, layer_idx=0)
    perturb(module)
    rotary = RotaryEmbedding(config)
    lengths = LENGTHS if pool == "learned_pool" else LENGTHS[-1:]
    for length in lengths:
        states = hidden_states(config, length=length, seed=length)
        positions = torch.arange(length)[None]
        with torch.no_grad():
            output, _ = module(states, rotary(states, positions), None, position_ids=positions)
            wanted = torch.stack([by_the_paper(module, config, row, pool) for row in states])
        torch.testing.assert_close(output, wanted, atol=2e-5, rtol=2e-5)


def test_blocks_are_chosen_among_many() -> None:
    """With more blocks than a query may read, the choice decides what it gives."""
    config = component_config(pool="mean", keeps_blocks=True, index_topk=4)
    module = NativeSparseAttention(config, layer_idx=0)
    perturb(module)
    states = hidden_states(config, length=40)
    positions = torch.arange(40)[None]
    tables = RotaryEmbedding(config)(states, positions)
    with torch.no_grad():
        few, _ = module(states, tables, None, position_ids=positions)
        module.index_topk = 100
        all_blocks, _ = module(states, tables, None, position_ids=positions)
    torch.testing.assert_close(few[:, :16], all_blocks[:, :16], atol=1e-6, rtol=1e-6)
    assert (few[:, 24:] - all_blocks[:, 24:]).abs().max() > 1e-3
