"""A built model trains with transformers' Trainer on real text, and is then a model that reloads and generates."""

from __future__ import annotations

import json
from pathlib import Path
from pydoc_data import topics
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, set_seed

from eulerc.api import build

LENGTH = 64
SPEC = """
schema_version: 1
model: {name: pocket, d_model: 192, vocab_size: 384, max_seq_len: 128, n_heads: 4, n_kv_heads: 2, dtype: float32}
tokenizer_contract: {type: hf, pretrained: "byte-bpe:text.txt", add_bos: false}
embedding: {positional: rope}
layer_templates:
  local:
    mixer: {type: attention, attention: {window: 32}}
    ffn: {type: moe, moe: {experts: 4, top_k: 2, expert_size: 256, z_loss: 0.001}}
  global:
    mixer: {type: attention}
    ffn: {type: moe, moe: {experts: 4, top_k: 2, expert_size: 256, z_loss: 0.001}}
layer_schedule:
  - {pattern: [local, global], repeat: 2}
training_hints:
  {lr_peak: 0.004, lr_floor_ratio: 0.1, betas: [0.9, 0.95], weight_decay: 0.1, grad_clip: 1.0, warmup_steps_ratio: 0.05}
"""


def rows(ids: list[int]) -> list[dict[str, torch.Tensor]]:
    """Training examples of LENGTH tokens."""
    pieces = torch.tensor(ids[: len(ids) // LENGTH * LENGTH]).view(-1, LENGTH)
    return [{"input_ids": piece, "labels": piece} for piece in pieces]


def unigram_entropy(ids: list[int]) -> float:
    """The loss, in nats, of the best model that knows only how often each token occurs."""
    shares = torch.bincount(torch.tensor(ids)).double() / len(ids)
    return -torch.special.xlogy(shares, shares).sum().item()


def train(model: Any, data: list[dict[str, torch.Tensor]], directory: Path, **options: Any) -> Trainer:
    """A run of the Trainer on the CPU that saves nothing by itself."""
    arguments = TrainingArguments(
        output_dir=str(directory),
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **options,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=data)
    trainer.train()
    return trainer


@pytest.mark.slow
def test_a_model_learns_real_text_and_generates_the_same_with_cache_and_without(tmp_path: Path) -> None:
    text = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    (tmp_path / "spec.yaml").write_text(SPEC)
    built, saved = tmp_path / "built", tmp_path / "saved"
    build(tmp_path / "spec.yaml", built)
    tokenizer = AutoTokenizer.from_pretrained(built, trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(built, trust_remote_code=True)
    assert 2_500_000 < model.num_parameters() < 4_000_000

    ids = tokenizer(text).input_ids
    set_seed(0)
    trainer = train(
        model,
        rows(ids),
        tmp_path,
        max_steps=300,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        logging_steps=20,
        **json.loads((built / "training_hints.json").read_text()),
    )
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] > unigram_entropy(ids) - 0.3
    assert losses[-1] < unigram_entropy(ids) - 0.6, (losses, unigram_entropy(ids))

    trainer.save_model(str(saved))
    tokenizer.save_pretrained(saved)
    again = AutoModelForCausalLM.from_pretrained(saved, trust_remote_code=True).eval()
    model.eval()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    prompt = AutoTokenizer.from_pretrained(saved, trust_remote_code=True)("The statement is", return_tensors="pt")
    options = {"max_new_tokens": 60, "do_sample": False, "no_repeat_ngram_size": 3}
    cached = again.generate(**prompt, **options)
    assert cached.shape[1] > 60
    assert torch.equal(cached, again.generate(**prompt, use_cache=False, **options))
    assert torch.equal(cached, model.generate(**prompt, **options))
