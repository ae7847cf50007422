"""`generate` in phases does what a loop in plain Python does, whatever the rows, the cache and the search."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from tests.phases.building import (
    BYTES,
    KINDS,
    Urge,
    model,
    modes,
    padded,
    prompts,
    reference,
    shown,
    without_padding,
)

EVERY = [
    (kind, transition)
    for kind in KINDS
    for transition in ("token", "budget")
    if (kind, transition) != ("one", "token") and kind != "weighted"
]
URGE = {"do_sample": False, "logits_processor": LogitsProcessorList([Urge()])}


def expected(lm: Any, rows: list[list[int]], kind: str, transition: str, everything: bool = False) -> list[list[int]]:
    """The tokens that the user gets for each prompt, or all that are generated."""
    phases = modes(kind)
    found = [reference(lm, row, phases, transition == "token") for row in rows]
    if everything:
        return [[token for tokens in generated for token in tokens] for generated in found]
    return [shown(generated, phases) for generated in found]


@pytest.mark.parametrize("cache", [{}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str)
@pytest.mark.parametrize(("kind", "transition"), EVERY)
def test_a_padded_batch_generates_what_its_rows_would(kind: str, transition: str, cache: dict[str, Any]) -> None:
    lm = model(kind, transition)
    rows = prompts(9, 4, 7, 1)
    batch = padded(rows)
    found = lm.generate(**batch, **URGE, **cache)
    assert torch.equal(found[:, :9], batch["input_ids"])
    assert [without_padding(row) for row in found[:, 9:].tolist()] == expected(lm, rows, kind, transition)


def test_the_references_show_every_way_a_phase_may_end() -> None:
    lm = model("shared", "token")
    generated = [reference(lm, row, modes("shared"), by_token=True) for row in prompts(9, 4, 7, 1)]
    lengths = {(number, len(tokens) - 1) for phases in generated for number, tokens in enumerate(phases)}
    for number, phase in enumerate(modes("shared")):
        own = {length for which, length in lengths if which == number}
        assert phase["max_tokens"] in own, "ends at its budget"
        assert min(own) < phase["max_tokens"], "ends by itself"


@pytest.mark.parametrize("limit", [1, 4, 5, 6, 9, 12, 16])
@pytest.mark.parametrize("kind", ["shared", "restarted", "restarted_twice"])
def test_a_limit_cuts_each_row_where_the_row_alone_would_be_cut(kind: str, limit: int) -> None:
    lm = model(kind, "token")
    rows = prompts(9, 4, 7, 1)
    wanted = [tokens[:limit] for tokens in expected(lm, rows, kind, "token")]
    for asked in ({"max_new_tokens": limit}, {"max_length": 9 + limit}):
        found = lm.generate(**padded(rows), **URGE, **asked)
        pairs = zip(found[:, 9:].tolist(), wanted, strict=True)
        assert all(without_padding(row)[: len(want)] == want for row, want in pairs)
        assert found.shape[1] - 9 == max(map(len, wanted))


@pytest.mark.parametrize("kind", ["hidden", "all"])
@pytest.mark.parametrize("transition", ["token", "budget"])
def test_hidden_phases_are_kept_when_asked_for(kind: str, transition: str) -> None:
    lm = model(kind, transition)
    rows = prompts(9, 4, 7, 1)
    found = lm.generate(**padded(rows), **URGE, keep_hidden_phases=True)
    wanted = expected(lm, rows, kind, transition, everything=True)
    assert [without_padding(row) for row in found[:, 9:].tolist()] == wanted
    assert found.shape[1] - 9 == max(map(len, wanted))
    assert wanted != expected(lm, rows, kind, transition)


def check_form(tokens: list[int], phases: list[dict[str, Any]], by_token: bool) -> None:
    """Each phase within its budget, ended by its own token, or by nothing but its budget."""
    for number, phase in enumerate(phases):
        is_last = number == len(phases) - 1
        end = BYTES["eos"] if is_last else BYTES["transition"] if by_token else None
        length = phase["max_tokens"] if end is None or end not in tokens else tokens.index(end)
        assert length <= phase["max_tokens"]
        own, tokens = tokens[:length], tokens[length + (end is not None) :]
        assert BYTES["eos"] not in own
        assert not (by_token and BYTES["transition"] in own)
        assert end is not None or len(own) == phase["max_tokens"]
    assert tokens == []


@pytest.mark.parametrize(
    "search",
    [
        {"do_sample": True, "num_return_sequences": 3},
        {"do_sample": True, "top_k": 1},
        {"num_beams": 4},
        {"num_beams": 4, "num_return_sequences": 3},
        {"num_beams": 3, "do_sample": True},
        {"num_beams": 2, "length_penalty": 0.0, "early_stopping": "never"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("kind", "transition"), [("shared", "token"), ("all", "token"), ("all", "budget")])
def test_samples_and_beams_keep_to_the_phases(kind: str, transition: str, search: dict[str, Any]) -> None:
    lm = model(kind, transition)
    rows = prompts(9, 4, 7)
    urge = {"logits_processor": LogitsProcessorList([Urge()])} if transition == "token" else {}
    keep = {"keep_hidden_phases": True} if kind == "all" else {}
    results = []
    for cached in (True, False):
        torch.manual_seed(0)
        results.append(lm.generate(**padded(rows), **search, **urge, **keep, use_cache=cached))
    assert torch.equal(*results)
    assert len(results[0]) == 3 * search.get("num_return_sequences", 1)
    for row in results[0][:, 9:].tolist():
        check_form(without_padding(row), modes(kind), transition == "token")


def test_beams_find_what_greedy_search_does_not() -> None:
    lm = model("shared", "token")
    batch = padded(prompts(9, 4, 7))
    greedy, beams = lm.generate(**batch, do_sample=False), lm.generate(**batch, do_sample=False, num_beams=4)
    assert not torch.equal(greedy[:, : beams.shape[1]], beams[:, : greedy.shape[1]])


class Received(BaseStreamer):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.puts: list[list[int]] = []
        self.ends = 0

    def put(self, value: torch.Tensor) -> None:
        assert self.ends == 0
        self.puts.append(value.flatten().tolist())

    def end(self) -> None:
        self.ends += 1


@pytest.mark.parametrize(("kind", "transition"), EVERY)
def test_a_streamer_gets_the_prompt_once_and_each_visible_token(kind: str, transition: str) -> None:
    lm = model(kind, transition)
    for prompt in prompts(5, 8):
        streamer = Received()
        lm.generate(torch.tensor([prompt]), **URGE, streamer=streamer)
        (tokens,) = expected(lm, [prompt], kind, transition)
        assert streamer.puts == [prompt, *([token] for token in tokens)]
        assert streamer.ends == 1


def test_a_streamer_gets_hidden_tokens_when_asked_for() -> None:
    lm = model("all", "token")
    (prompt,) = prompts(5)
    streamer = Received()
    lm.generate(torch.tensor([prompt]), **URGE, streamer=streamer, keep_hidden_phases=True)
    (tokens,) = expected(lm, [prompt], "all", "token", everything=True)
    assert streamer.puts == [prompt, *([token] for token in tokens)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_dictionary_holds_the_same_sequences(kind: str) -> None:
    lm = model(kind, "budget")
    batch = padded(prompts(9, 4))
    output = lm.generate(**batch, **URGE, return_dict_in_generate=True, output_scores=True)
    assert torch.equal(output.sequences, lm.generate(**batch, **URGE))
    assert output.scores


@pytest.mark.parametrize("kind", ["shared", "hidden"])
def test_a_prompt_may_be_embeddings_or_nothing(kind: str) -> None:
    lm = model(kind, "token")
    (prompt,) = prompts(6)
    ids = torch.tensor([prompt])
    wanted = lm.generate(ids, **URGE)[:, 6:]
    embeddings = lm.get_input_embeddings()(ids)
    assert torch.equal(lm.generate(inputs_embeds=embeddings, **URGE), wanted)
    assert torch.equal(lm.generate(input_ids=ids, **URGE)[:, 6:], wanted)
    begun = lm.generate(torch.tensor([[BYTES["bos"]]]), **URGE)
    assert torch.equal(lm.generate(**URGE), begun)


def test_phases_that_begin_anew_need_ids() -> None:
    lm = model("restarted", "token")
    with pytest.raises(ValueError, match="pass input_ids"):
        lm.generate(inputs_embeds=torch.zeros(1, 3, 64))


@pytest.mark.parametrize("kind", ["shared", "restarted"])
def test_a_row_without_a_mask_is_padded_where_padding_tokens_stand(kind: str) -> None:
    lm = model(kind, "token")
    batch = padded(prompts(9, 4, 7, 1))
    assert torch.equal(lm.generate(batch["input_ids"], **URGE), lm.generate(**batch, **URGE))


@pytest.mark.parametrize("kind", ["shared", "restarted"])
def test_the_cache_of_an_earlier_call_may_be_handed_on(kind: str) -> None:
    lm = model(kind, "token")
    ids = torch.tensor(prompts(8))
    cache = lm(ids[:, :5], use_cache=True).past_key_values
    assert torch.equal(lm.generate(ids, past_key_values=cache, **URGE), lm.generate(ids, **URGE))


@pytest.mark.parametrize("kind", ["shared", "restarted"])
def test_settings_come_from_the_call_before_the_model(kind: str) -> None:
    lm = model(kind, "token")
    ids = torch.tensor(prompts(5))
    wanted = lm.generate(ids, **URGE)
    processors = URGE["logits_processor"]
    assert torch.equal(lm.generate(ids, GenerationConfig(do_sample=False), processors), wanted)
    assert torch.equal(lm.generate(ids, GenerationConfig(max_new_tokens=3), processors), wanted[:, : 5 + 3])
    other = lm.generate(
        ids, do_sample=False, transition_token_id=262, eos_token_id=[263, 261], logits_processor=processors
    )
    assert (other == 262).sum() == 2
    assert other[0, -1] == 263
    lm.config.transition_token_id = lm.generation_config.transition_token_id = None
    with pytest.raises(ValueError, match="transition_token_id"):
        lm.generate(ids)


class StopBehind(StoppingCriteria):
    """Stops rows at a length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.full(input_ids.shape[:1], input_ids.shape[1] >= self.length)


@pytest.mark.parametrize("kind", ["shared", "restarted", "all"])
def test_a_criterion_of_the_callers_stops_a_row_within_a_phase(kind: str) -> None:
    lm = model(kind, "budget")
    ids = torch.tensor(prompts(6))
    stopped = lm.generate(ids, **URGE, stopping_criteria=StoppingCriteriaList([StopBehind(8)]))
    assert torch.equal(stopped, lm.generate(ids, **URGE)[:, :8])


def test_candidates_of_prompt_lookup_keep_to_the_phases() -> None:
    lm = model("shared", "token")
    ids = torch.tensor([(prompts(6)[0] * 3)])
    wanted = lm.generate(ids, **URGE)
    assert torch.equal(lm.generate(ids, **URGE, prompt_lookup_num_tokens=3), wanted)


def test_a_saved_model_generates_the_same_phases(tmp_path: Any) -> None:
    lm = model("all", "token")
    lm.save_pretrained(tmp_path)
    again = type(lm).from_pretrained(tmp_path).eval()
    ids = torch.tensor(prompts(5))
    assert again.generation_config.transition_token_id == BYTES["transition"]
    assert torch.equal(again.generate(ids, **URGE), lm.generate(ids, **URGE))
