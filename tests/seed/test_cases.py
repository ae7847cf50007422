"""The cases of the positioning paper: how many lines of a spec change, and what the model then does."""

from __future__ import annotations

from difflib import ndiff
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from eulerc.api import build, lint

BASE = """schema_version: 1
model: {name: kestrel, d_model: 512, vocab_size: 320, max_seq_len: 16384, n_heads: 8, mlp_ratio: 1, dtype: float32}
tokenizer_contract: {type: hf, pretrained: byte-bpe, add_bos: true}
embedding: {positional: rope}
layer_templates:
  decoder:
    mixer:
      type: attention
      attention: { qkv_bias: false }
    ffn: {type: gated_mlp}
layer_schedule:
  - {template: decoder, repeat: 2}
"""
LATENT = BASE.replace("attention: { qkv_bias: false }", "attention: { qkv_bias: false, latent_dim: 384 }")
PHASED = f"""{BASE}execution_modes:
  - {{ name: think, max_tokens: 8192, kv_share: true, loss_weight: 0.0 }}
  - {{ name: answer, max_tokens: 2048, loss_weight: 1.0 }}
transition:
  type: special_token
  token: "<think_end>"
"""
REMEMBERING = BASE.replace(
    "    ffn: {type: gated_mlp}\n",
    """    ffn: {type: gated_mlp}
    memory:
      type: neural_memory
      update_at_inference: true
      params: { hidden: 1024 }
      inner_lr: 0.001
      persistence: session
""",
)


def changed_lines(new: str) -> tuple[int, int]:
    """How many lines the spec loses and gains."""
    lines = list(ndiff(BASE.splitlines(), new.splitlines()))
    return sum(line.startswith("- ") for line in lines), sum(line.startswith("+ ") for line in lines)


def built(text: str, folder: Path) -> tuple[Any, Any]:
    """The model of a spec, and its tokenizer."""
    (folder / "spec.yaml").write_text(text)
    build(folder / "spec.yaml", folder / "model")
    lm = AutoModelForCausalLM.from_pretrained(folder / "model", trust_remote_code=True).eval()
    return lm, AutoTokenizer.from_pretrained(folder / "model", trust_remote_code=True)


def test_case_a_latent_attention_in_one_line(tmp_path: Path) -> None:
    assert changed_lines(LATENT) == (1, 1)
    assert lint("spec.yaml", LATENT.encode()).ok
    lm, tokenizer = built(LATENT, tmp_path)
    ids = tokenizer("A latent is what the cache holds.", return_tensors="pt").input_ids
    with torch.no_grad():
        output = lm(ids, use_cache=True)
    # A token costs the latent and the rotating half of one head's width, whatever the heads
    for layer in output.past_key_values.layers:
        held = layer.keys.numel() + layer.values.numel()
        assert held == ids.shape[1] * (384 + 512 // 8 // 2)
    options = {"do_sample": False, "max_new_tokens": 20, "no_repeat_ngram_size": 1}
    assert torch.equal(lm.generate(ids, **options), lm.generate(ids, use_cache=False, **options))


def test_case_b_thinking_before_answering_in_six_lines(tmp_path: Path) -> None:
    assert changed_lines(PHASED) == (0, 6)
    result = lint("spec.yaml", PHASED.encode())
    assert result.ok
    assert not result.diagnostics
    lm, tokenizer = built(PHASED, tmp_path)

    # The token is the tokenizer's, and one token
    transition, eos = tokenizer.convert_tokens_to_ids("<think_end>"), tokenizer.eos_token_id
    assert transition == lm.generation_config.transition_token_id < lm.config.vocab_size
    text = tokenizer("so<think_end>four", add_special_tokens=False).input_ids
    assert text.count(transition) == 1
    assert tokenizer.decode(text) == "so<think_end>four"
    assert tokenizer.decode(text, skip_special_tokens=True) == "sofour"

    # The phases are the config's, where budgets may be edited
    assert [mode["max_tokens"] for mode in lm.config.execution_modes] == [8192, 2048]
    lm.config.execution_modes[0]["max_tokens"], lm.config.execution_modes[1]["max_tokens"] = 12, 7
    prompts = tokenizer(["two and two?", "why is it so that it is?"], padding=True, return_tensors="pt")
    torch.manual_seed(0)
    rows = lm.generate(**prompts, do_sample=True, temperature=0.3, num_return_sequences=4)
    for row in rows[:, prompts.input_ids.shape[1] :].tolist():
        thoughts, answer = row[: row.index(transition)], row[row.index(transition) + 1 : row.index(eos)]
        assert len(thoughts) <= 12
        assert len(answer) <= 7
        assert not {transition, eos} & {*thoughts, *answer}

    # Thoughts are not learned, the transition and the answer are
    ids = rows[:1]
    labels = ids.clone()
    labels[:, : prompts.input_ids.shape[1]] = -100
    output = lm(ids, labels=labels)
    start = ids[0].tolist().index(transition)
    losses = torch.nn.functional.cross_entropy(output.logits[0, :-1], labels[0, 1:], reduction="none")
    torch.testing.assert_close(output.loss, losses[start - 1 :].sum() / (labels != -100).sum())


def test_case_c_titans_memory_in_five_lines(tmp_path: Path) -> None:
    # The key of the block, and five lines below it
    assert changed_lines(REMEMBERING) == (0, 6)
    result = lint("spec.yaml", REMEMBERING.encode())
    assert result.ok
    assert not result.diagnostics
    lm, tokenizer = built(REMEMBERING, tmp_path)

    # Every attention layer has one, whose weights and momentum are states of the sequence
    ids = tokenizer("What it reads it learns, a chunk of tokens at a time. " * 2, return_tensors="pt").input_ids
    parameters = {name: parameter.clone() for name, parameter in lm.named_parameters()}
    cache = DynamicCache(config=lm.config)
    options = {"do_sample": False, "max_new_tokens": 8}
    first = lm.generate(ids, past_key_values=cache, **options)
    learned = lm.read_memory(cache)
    for layer in range(2):
        assert learned[f"{layer}.weights"].shape == (1, 2, 1024, 512)
        assert learned[f"{layer}.momentum"].abs().sum() > 0
        initial = parameters[f"model.layers.{layer}.memory.initial_weights"]
        assert not torch.equal(learned[f"{layer}.weights"][0], initial)
    # Nothing was written to a parameter, and decoding learns what reading at once learns
    assert all(torch.equal(parameters[name], parameter) for name, parameter in lm.named_parameters())
    assert torch.equal(first, lm.generate(ids, use_cache=False, **options))

    # A session goes on in its cache, also in one that is saved and given back
    more = torch.cat((first, tokenizer("And then?", add_special_tokens=False, return_tensors="pt").input_ids), dim=1)
    torch.save(learned, tmp_path / "memory.pt")
    second = lm.generate(more, past_key_values=cache, **options)
    assert torch.equal(second, lm.generate(more, use_cache=False, **options))
    session = DynamicCache(config=lm.config)
    lm.write_memory(session, torch.load(tmp_path / "memory.pt"))
    assert all(torch.equal(state, learned[name]) for name, state in lm.read_memory(session).items())

    # The gradient of a loss goes through all that the memory learns
    lm.train()(more, labels=more).loss.backward()
    for name in ("initial_weights", "k_proj.weight", "v_proj.weight", "forget_proj.weight", "step_proj.weight"):
        assert lm.get_parameter(f"model.layers.0.memory.{name}").grad.abs().sum() > 0
