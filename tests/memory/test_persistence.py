"""How long memories last: what `generate` learns, what a cache carries on, what the checkpoint keeps."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from eulerc.api import build
from tests.variants.building import block, spec
from tests.variants.memories import with_memory

TYPES = {
    "neural_memory": "params: {hidden: 16}, inner_lr: 0.2, chunk_size: 4",
    "associative": "params: {hidden: 16}",
    "retrieval": "params: {hidden: 16, slots: 24, top_k: 3}",
}


def made(folder: Path, kind: str, persistence: str, learns: bool = True) -> Any:
    """A model of one memory beside attention that sees four tokens: what is further back only the memory knows."""
    memory = f"type: {kind}, {TYPES[kind]}, persistence: {persistence}, update_at_inference: {str(learns).lower()}"
    text = spec(f"{kind}_{persistence}", with_memory(block("window: 4"), memory), "  - {template: block}")
    (folder / "spec.yaml").write_text(text)
    build(folder / "spec.yaml", folder / "model", tokenizer=False)
    return loaded(folder / "model")


def classes(folder: Path) -> Any:
    path = next(folder.glob("modeling_*.py"))
    module_spec = importlib.util.spec_from_file_location(f"persisting_{path.stem}", path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    module_spec.loader.exec_module(module)
    return module


def loaded(folder: Path) -> Any:
    (causal_lm,) = (value for name, value in vars(classes(folder)).items() if name.endswith("ForCausalLM"))
    lm = causal_lm.from_pretrained(folder).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return lm


def tokens(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 90, (1, length), generator=torch.Generator().manual_seed(seed))


def told(lm: Any, seed: int = 0) -> DynamicCache:
    """A cache whose memories have read something, behind which every window is full of the same tokens."""
    cache = DynamicCache(config=lm.config)
    with torch.no_grad():
        lm(torch.cat((tokens(12, seed), tokens(8, 7)), dim=1), past_key_values=cache)
    return cache


def heard(lm: Any, cache: DynamicCache) -> torch.Tensor:
    """Logits of a call of `generate` in a cache of 20 tokens, (new tokens, vocabulary)."""
    ids = torch.cat((torch.zeros(1, 20, dtype=torch.long), tokens(3, 9)), dim=1)
    output = lm.generate(
        ids,
        past_key_values=cache,
        max_new_tokens=2,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        pad_token_id=0,
    )
    return torch.cat(output.logits)


@pytest.mark.parametrize("kind", TYPES)
def test_a_memory_of_a_session_lasts_as_long_as_its_cache(kind: str, tmp_path: Path) -> None:
    lm = made(tmp_path, kind, "session")
    assert not torch.allclose(heard(lm, told(lm, 1)), heard(lm, told(lm, 2)), atol=1e-4)
    assert not any(name.split(".")[-1].startswith("memory_state") for name in lm.state_dict())


@pytest.mark.parametrize("kind", TYPES)
def test_a_memory_of_a_query_begins_anew_in_each_call_of_generate(kind: str, tmp_path: Path) -> None:
    lm = made(tmp_path, kind, "per_query")
    # Attention in one layer sees the same tokens in both; what differs further back is with the memory alone
    torch.testing.assert_close(heard(lm, told(lm, 1)), heard(lm, told(lm, 2)))
    # A forward pass of several tokens is no new query
    first, second = (lm(tokens(3, 9), past_key_values=told(lm, seed)).logits for seed in (1, 2))
    assert not torch.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("kind", TYPES)
def test_generate_learns_where_memories_learn_in_use(kind: str, tmp_path: Path) -> None:
    lm = made(tmp_path, kind, "session")
    cache = DynamicCache(config=lm.config)
    ids = lm.generate(tokens(5), past_key_values=cache, max_new_tokens=12, do_sample=False, pad_token_id=0)
    known = {name: state.clone() for name, state in lm.state_dict().items()}
    whole = DynamicCache(config=lm.config)
    with torch.no_grad():
        lm(ids[:, :-1], past_key_values=whole)
    states, wanted = lm.read_memory(cache), lm.read_memory(whole)
    assert states.keys() == wanted.keys() and states
    for name, state in states.items():
        torch.testing.assert_close(state, wanted[name], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(known[name], state) for name, state in lm.state_dict().items())


@pytest.mark.parametrize("kind", TYPES)
def test_states_can_be_read_saved_and_given_back(kind: str, tmp_path: Path) -> None:
    lm = made(tmp_path, kind, "session")
    torch.save(lm.read_memory(told(lm, 1)), tmp_path / "memory.pt")
    other = told(lm, 2)
    lm.write_memory(other, torch.load(tmp_path / "memory.pt"))
    wanted = heard(lm, told(lm, 1))
    torch.testing.assert_close(heard(lm, other), wanted)
    cleared = told(lm, 1)
    lm.clear_memory(cleared)
    assert not lm.read_memory(cleared)
    assert not torch.allclose(heard(lm, cleared), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", TYPES)
def test_a_persistent_memory_is_written_to_the_checkpoint_when_it_is_committed(kind: str, tmp_path: Path) -> None:
    lm = made(tmp_path, kind, "persistent")
    buffers = {name: buffer for name, buffer in lm.named_buffers() if "memory_state" in name}
    assert buffers and all(buffer.abs().sum() == 0 for buffer in buffers.values())
    with torch.no_grad():
        fresh = lm(tokens(9, 9)).logits
        cache = told(lm, 1)
        # Nothing but a commit changes what new caches begin with
        assert torch.equal(lm(tokens(9, 9)).logits, fresh)
        lm.commit_memory(cache)
        taught = lm(tokens(9, 9)).logits
        assert not torch.allclose(taught, fresh, atol=1e-4)
        # As in a cache that has that memory, behind the end of its chunk
        torch.testing.assert_close(lm.model.layers[0].memory.initial_states(1)[0][0], committed(lm, cache))
    lm.save_pretrained(tmp_path / "taught")
    again = type(lm).from_pretrained(tmp_path / "taught").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(tokens(9, 9)).logits, taught)


def committed(lm: Any, cache: DynamicCache) -> torch.Tensor:
    """The first state of the memory that a commit takes, with what its chunk has learned."""
    memory = lm.model.layers[0].memory
    return lm.read_memory(cache)[f"0.{next(iter(memory.committed.values()))}"][0]


@pytest.mark.parametrize("kind", TYPES)
def test_a_memory_that_learns_in_training_keeps_nothing(kind: str, tmp_path: Path) -> None:
    lm = made(tmp_path, kind, "session", learns=False)
    with torch.no_grad():
        cache = lm(tokens(20), use_cache=True).past_key_values
    assert not hasattr(lm, "read_memory")
    assert not any(getattr(layer, "recurrent_states", None) for layer in cache.layers)
    with pytest.raises(ValueError, match="start again within a row"):
        lm.train()(tokens(8), position_ids=torch.tensor([[0, 1, 2, 3] * 2]))
