"""Models with a prefix: what sees ahead, and that every way of running one agrees."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from builds import VARIANTS, close, directory, model, read, tokens
from test_invariants import visible

from eulerc.ir.definition import is_mixer
from eulerc.ir.numbers import schedule

NAMES = tuple(name for name, text in VARIANTS.items() if "prefix_lm" in text)
LENGTH = 24
NOISE = 2e-6
"""What rounding does where a mixture of experts takes tokens in another order."""


def types(lengths: list[int], length: int = LENGTH) -> torch.Tensor:
    """Token types (batch, length) of prefixes of these lengths."""
    return (torch.arange(length)[None] < torch.tensor(lengths)[:, None]).long()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_tokens_of_the_prefix_see_each_other_and_the_others_see_the_past(name: str) -> None:
    _, module = read(VARIANTS[name])
    prefix = types([10])
    reached = torch.eye(LENGTH, dtype=torch.bool)
    for template in schedule(module):
        for op in template.ops:
            if is_mixer(op):
                mask = visible(op, LENGTH) | (prefix.T * prefix).bool() & bool(op.get("prefix_lm"))
                reached = (mask.float() @ reached.float() > 0) | reached
    lm = model(name)
    for part in lm.modules():
        if hasattr(part, "index_topk"):
            part.index_topk = LENGTH
    ids = tokens(1, LENGTH)
    before = lm(ids, token_type_ids=prefix, use_cache=False).logits
    for position in range(LENGTH):
        changed = ids.clone()
        changed[0, position] = (changed[0, position] + 1 - 3) % 96 + 3
        moved = (lm(changed, token_type_ids=prefix, use_cache=False).logits - before).abs().amax(dim=-1)[0] > NOISE
        assert torch.equal(moved, reached[:, position]), position


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("first", [7, 8, 15])
@torch.no_grad()
def test_decoding_behind_a_prefix_equals_one_forward_pass(name: str, first: int) -> None:
    lm = model(name)
    ids, prefix = tokens(2, LENGTH), types([7, 4])
    whole = lm(ids, token_type_ids=prefix, use_cache=False).logits
    output = lm(ids[:, :first], token_type_ids=prefix[:, :first], use_cache=True)
    logits = [output.logits]
    for position in range(first, LENGTH):
        now = slice(position, position + 1)
        output = lm(ids[:, now], token_type_ids=prefix[:, now], past_key_values=output.past_key_values, use_cache=True)
        logits.append(output.logits)
    assert close(torch.cat(logits, dim=1), whole)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_left_padding_and_neighbours_change_nothing(name: str) -> None:
    lm = model(name)
    long, short = tokens(1, 14, 1), tokens(1, 9, 2)
    batch = torch.cat((long, torch.cat((torch.zeros(1, 5, dtype=torch.long), short), dim=1)))
    mask = torch.ones_like(batch)
    mask[1, :5] = 0
    prefix = torch.cat((types([8], 14), torch.cat((torch.zeros(1, 5, dtype=torch.long), types([6], 9)), dim=1)))
    logits = lm(batch, attention_mask=mask, token_type_ids=prefix, use_cache=False).logits
    assert close(logits[:1], lm(long, token_type_ids=types([8], 14), use_cache=False).logits)
    assert close(logits[1:, 5:], lm(short, token_type_ids=types([6], 9), use_cache=False).logits)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_packed_sequences_have_prefixes_of_their_own(name: str) -> None:
    lm = model(name)
    first, second = tokens(1, 7, 3), tokens(1, 8, 4)
    prefixes = types([4], 7), types([5], 8)
    packed = lm(
        torch.cat((first, second), dim=1),
        position_ids=torch.cat((torch.arange(7), torch.arange(8)))[None],
        token_type_ids=torch.cat(prefixes, dim=1),
        use_cache=False,
    ).logits
    apart = [
        lm(ids, token_type_ids=prefix, use_cache=False).logits
        for ids, prefix in zip((first, second), prefixes, strict=True)
    ]
    assert close(packed, torch.cat(apart, dim=1))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_every_way_to_generate_continues_the_prefix_alike(name: str) -> None:
    lm = model(name)
    for ids, prefix in (tokens(1, 9), types([9], 9)), (tokens(1, 9, 1), types([6], 9)):
        wanted = ids
        for _ in range(8):
            given = torch.nn.functional.pad(prefix, (0, wanted.shape[1] - 9))
            logits = lm(wanted, token_type_ids=given, use_cache=False).logits
            wanted = torch.cat((wanted, logits[:, -1:].argmax(dim=-1)), dim=1)
        ways = {
            "cached": {},
            "uncached": {"use_cache": False},
            "static": {"cache_implementation": "static", "disable_compile": True},
            "looked up": {"prompt_lookup_num_tokens": 3},
        }
        for way, settings in ways.items():
            found = lm.generate(
                ids, token_type_ids=prefix, max_new_tokens=8, do_sample=False, eos_token_id=-1, **settings
            )
            assert torch.equal(found, wanted), way


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_beams_agree_with_and_without_a_cache(name: str) -> None:
    lm = model(name)
    ids, prefix = tokens(2, 9), types([9, 5], 9)
    settings = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
    cached = lm.generate(ids, token_type_ids=prefix, **settings)
    assert torch.equal(cached, lm.generate(ids, token_type_ids=prefix, use_cache=False, **settings))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_that_of_tokens_behind_the_prefix(name: str) -> None:
    lm = model(name)
    ids, prefix = tokens(3, LENGTH), types([9, 4, 0])
    output = lm(ids, labels=ids, token_type_ids=prefix, use_cache=False)
    labels = ids.masked_fill(prefix == 1, -100)[:, 1:]
    loss = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels.flatten())
    others = 0.0 if output.get("aux_loss") is None else lm.config.router_aux_loss_coef * output.aux_loss
    assert torch.allclose(output.loss, loss + others)
    output.loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in lm.parameters())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_prefix_behind_cached_tokens_is_refused(name: str) -> None:
    lm = model(name)
    ids = tokens(1, 8)
    cache = lm(ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="cannot begin or go on behind cached tokens"):
        lm(ids, token_type_ids=types([4], 8), past_key_values=cache, use_cache=True)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_attention_of_the_library_sees_the_same_prefix(name: str) -> None:
    lm = model(name)
    ids, prefix = tokens(2, LENGTH), types([9, 5])
    eager = lm(ids, token_type_ids=prefix, use_cache=False).logits
    assert not close(eager[:, :4], lm(ids, use_cache=False).logits[:, :4])
    if lm._supports_sdpa:
        lm.set_attn_implementation("sdpa")
        assert close(lm(ids, token_type_ids=prefix, use_cache=False).logits, eager)
    assert not lm._supports_flash_attn


@torch.no_grad()
def test_a_prefix_is_what_a_mask_of_four_dimensions_says() -> None:
    lm = model("prefix")
    ids, prefix = tokens(2, LENGTH), types([9, 5])
    seen = torch.ones(LENGTH, LENGTH).tril().bool() | (prefix[:, :, None] & prefix[:, None, :]).bool()
    mask = torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None]
    by_mask = lm(ids, attention_mask=mask, use_cache=False).logits
    assert torch.equal(lm(ids, token_type_ids=prefix, use_cache=False).logits, by_mask)


@torch.no_grad()
def test_a_forward_pass_with_a_prefix_compiles_without_a_break() -> None:
    lm = model("prefix_alibi")
    ids, prefix = tokens(2, LENGTH), types([9, 5])
    compiled = torch.compile(lm, fullgraph=True, backend="eager")
    wanted = lm(ids, token_type_ids=prefix, use_cache=False).logits
    assert close(compiled(ids, token_type_ids=prefix, use_cache=False).logits, wanted)


def test_only_a_model_whose_layers_differ_says_so_in_its_config() -> None:
    uniform, mixed = (
        json.loads((directory(name) / "config.json").read_text()) for name in ("prefix", "prefix_in_some")
    )
    assert "prefix_lm" not in uniform
    assert mixed["prefix_lm"] is True
    assert [layer.get("prefix_lm") for layer in mixed["per_layer_config"].values()].count(False) == 1
