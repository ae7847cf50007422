"""What must hold of every construct: run over all variants."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from builds import VARIANTS, cached, close, code, directory, model, read, tokens

from eulerc.backends.hf.build import Options, with_options
from eulerc.ir.core import Op
from eulerc.ir.definition import is_mixer
from eulerc.ir.memories import is_memory
from eulerc.ir.numbers import tensor_plan, whole_layers
from eulerc.ir.stats import executed_flops, kv_bytes, state_bytes, statistics

NAMES = tuple(VARIANTS)


def stepwise(lm: torch.nn.Module, ids: torch.Tensor, first: int = 1) -> torch.Tensor:
    """Logits from a prefill of `first` tokens and one token at a time after it."""
    output = lm(ids[:, :first], use_cache=True)
    logits, cache = [output.logits], output.past_key_values
    for position in range(first, ids.shape[1]):
        output = lm(ids[:, position : position + 1], past_key_values=cache, use_cache=True)
        logits.append(output.logits)
        cache = output.past_key_values
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_decoding_step_by_step_equals_prefill_at_every_length(name: str) -> None:
    lm = model(name)
    for length in (1, 2, 3, 4, 5, 6, 7, 8, 9, 17):
        ids = tokens(2, length)
        assert close(stepwise(lm, ids), lm(ids, use_cache=False).logits), length


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_chunked_prefill_equals_one_prefill(name: str) -> None:
    lm = model(name)
    ids = tokens(2, 14)
    first = lm(ids[:, :9], use_cache=True)
    second = lm(ids[:, 9:], past_key_values=first.past_key_values, use_cache=True)
    assert close(torch.cat((first.logits, second.logits), dim=1), lm(ids, use_cache=False).logits)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_left_padding_and_neighbours_in_the_batch_change_nothing(name: str) -> None:
    lm = model(name)
    long, short = tokens(1, 11, 1), tokens(1, 7, 2)
    padding = torch.zeros(1, 4, dtype=torch.long)
    batch = torch.cat((long, torch.cat((padding, short), dim=1)))
    mask = torch.ones_like(batch)
    mask[1, :4] = 0
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits = lm(batch, attention_mask=mask, position_ids=positions, use_cache=False).logits
    assert close(logits[:1], lm(long, use_cache=False).logits)
    assert close(logits[1:, 4:], lm(short, use_cache=False).logits)
    derived = lm(batch, attention_mask=mask, use_cache=False).logits
    assert close(derived[1:, 4:], logits[1:, 4:])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_fused_attention_gives_what_eager_attention_gives(name: str) -> None:
    lm, ids = model(name), tokens(2, 11)
    wanted = lm(ids).logits
    if lm._supports_sdpa:
        lm.set_attn_implementation("sdpa")
        assert close(lm(ids).logits, wanted)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_later_tokens_change_nothing(name: str) -> None:
    lm = model(name)
    ids = tokens(1, 12)
    changed = ids.clone()
    changed[0, 8:] = tokens(1, 4, 5)[0]
    before, after = lm(ids, use_cache=False).logits, lm(changed, use_cache=False).logits
    assert close(after[:, :8], before[:, :8])
    assert not close(after[:, 8:], before[:, 8:])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_packed_sequences_equal_separate_ones(name: str) -> None:
    lm = model(name)
    first, second = tokens(1, 6, 3), tokens(1, 8, 4)
    positions = torch.cat((torch.arange(6), torch.arange(8)))[None]
    if getattr(lm, "_is_stateful", False):
        with pytest.raises(ValueError, match="start again within a row"):
            lm(torch.cat((first, second), dim=1), position_ids=positions, use_cache=False)
        return
    packed = lm(torch.cat((first, second), dim=1), position_ids=positions, use_cache=False).logits
    separate = torch.cat((lm(first, use_cache=False).logits, lm(second, use_cache=False).logits), dim=1)
    assert close(packed, separate)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter_that_is_trained(name: str) -> None:
    lm = model(name)
    _, module = read(VARIANTS[name])
    untrained = {plan.name for plan in tensor_plan(module) if not plan.trained}
    ids = tokens(4, 16)
    lm.train()(ids, labels=ids).loss.backward()
    without = [
        key for key, parameter in lm.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert set(without) == untrained


@pytest.mark.parametrize("name", NAMES)
def test_the_init_plan_is_the_state_dict(name: str) -> None:
    _, module = read(VARIANTS[name])
    planned = {plan.name: (plan.shape, plan.dtype) for plan in tensor_plan(module)}
    lm = model(name)
    state = {
        key: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for key, tensor in lm.state_dict().items()
    }
    assert planned == state
    assert statistics(module)["parameters"]["total"] == sum(parameter.numel() for parameter in lm.parameters())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_predicted_cache_bytes_are_those_of_the_cache(name: str) -> None:
    _, module = read(VARIANTS[name])
    lm = model(name)
    for length in (3, 30):
        cache = lm(tokens(1, length), use_cache=True).past_key_values
        growing, states = cached(cache, module)
        assert sum(tensor.numel() * tensor.element_size() for tensor in growing) == kv_bytes(module, length)
        assert sum(tensor.numel() * tensor.element_size() for tensor in states) == state_bytes(module)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_predicted_flops_are_those_that_torch_counts(name: str) -> None:
    _, module = read(VARIANTS[name])
    lm = model(name)
    if "moe" in VARIANTS[name]:
        lm.set_experts_implementation("eager")
    for length in (8, 24):
        with FlopCounterMode(display=False) as counter:
            lm(tokens(1, length), use_cache=False)
        assert counter.get_total_flops() == executed_flops(module, length)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_receptive_field_is_what_windows_and_depth_give(name: str) -> None:
    """Which inputs move the last output: those that a path through the layers' masks leads to.

    Indexers, gates and look-ups, whose choice follows no rule, keep all keys and tokens here.
    """
    _, module = read(VARIANTS[name])
    length = 30
    seen = torch.eye(length, dtype=torch.bool)[-1]
    for template in reversed(whole_layers(module)):
        for change in (op for op in template.ops if op.name == "shape_change" and op.carries):
            seen = (seen[:, None] & visible(change, length)).any(dim=0)
        masks = [visible(op, length) for op in template.ops if is_mixer(op) or is_memory(op)]
        reached = [(seen[:, None] & mask).any(dim=0) for mask in masks]
        seen = torch.stack([seen, *reached]).any(dim=0)
    lm = model(name)
    for part in lm.modules():
        if hasattr(part, "index_topk"):
            part.index_topk = length
        if type(part).__name__.endswith("RetrievalMemory"):
            part.top_k = part.num_slots
        if type(part).__name__.endswith("DepthRouter"):
            part.forward = lambda states, *_: (torch.ones(states.shape[:2]),)
    ids = tokens(1, length)
    before = lm(ids, use_cache=False).logits[0, -1]
    edges = (seen[1:] != seen[:-1]).nonzero().flatten().tolist()
    for position in sorted({0, length - 2, *edges, *(edge + 1 for edge in edges)}):
        changed = ids.clone()
        changed[0, position] = (changed[0, position] + 1 - 3) % 96 + 3
        moved = (lm(changed, use_cache=False).logits[0, -1] - before).abs().max().item() > 0
        assert moved == seen[position].item(), position


def visible(op: Op, length: int) -> torch.Tensor:
    """Which keys (columns) a query (row) of an op sees."""
    query, key = torch.arange(length)[:, None], torch.arange(length)[None]
    if is_memory(op):
        return remembered(op, query, key)
    distance, window = query - key, op.get("window") or op.get("kernel")
    if window is None:
        return distance >= 0
    if op.get("window_mode") == "chunked":
        return (distance >= 0) & (query // window == key // window)
    dilation = op.get("window_dilation") or 1
    near = (distance >= 0) & (distance < window * dilation) & (distance % dilation == 0)
    size = op.get("m_block")
    # Tokens further back are in blocks, which are seen once they have ended
    return near if size is None else near | ((key // size + 1) * size - 1 <= query)


def remembered(op: Op, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Which tokens (columns) a memory has learned of when one (row) reads it; that one it asks by."""
    if not op["update_at_inference"]:
        return query == key
    if op.name == "memory.associative":
        return key <= query
    if op.name == "memory.retrieval":
        return (query >= key) & (query - key <= op["slots"])
    chunk = op["chunk_size"]
    return (query == key) | (key // chunk < query // chunk)


@pytest.mark.parametrize("name", NAMES)
def test_files_hold_the_declared_dtypes(name: str) -> None:
    from safetensors import safe_open

    _, module = read(VARIANTS[name])
    planned = {plan.name: plan for plan in tensor_plan(module) if plan.tied_to is None}
    with safe_open(directory(name) / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(planned)
        for key, plan in planned.items():
            assert str(file.get_tensor(key).dtype) == f"torch.{plan.dtype}"
    assert json.loads((directory(name) / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("name", NAMES)
def test_a_model_loaded_in_16_bits_has_the_dtypes_of_its_plan(name: str) -> None:
    module = with_options(read(VARIANTS[name])[1], Options(dtype="bfloat16"))
    (causal_lm,) = (value for key, value in vars(code(name)).items() if key.endswith("ForCausalLM"))
    loaded = causal_lm.from_pretrained(directory(name), dtype=torch.bfloat16).state_dict()
    planned = {plan.name: f"torch.{plan.dtype}" for plan in tensor_plan(module)}
    assert {key: str(tensor.dtype) for key, tensor in loaded.items()} == planned
