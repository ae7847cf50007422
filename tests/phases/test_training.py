"""A loss over phases weighs each label as its phase says, and predicts it from what generation would have seen."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
import torch

from tests.phases.building import BYTES, Urge, model, modes, prompts

IGNORED = -100


def sequence(seed: int, lengths: tuple[int, int, int], transition: str, prompt: int = 5) -> tuple[list[int], list[int]]:
    """Ids and labels of one turn: a prompt without labels, then phases of some lengths."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(32, 127, (prompt + sum(lengths),), generator=generator).tolist()
    ids = text[:prompt]
    for number, length in enumerate(lengths):
        ids += text[len(ids) :][:length]
        ids += [BYTES["eos"]] if number == 2 else [BYTES["transition"]] if transition == "token" else []
    return ids, [IGNORED] * prompt + ids[prompt:]


def phases_of(ids: list[int], labels: list[int], kind: str, transition: str) -> list[int]:
    """The phase of each token: a transition token opens one, or so many labels fill one; eos begins anew."""
    phases, opened, counted = [], 0, 0
    budgets = [phase["max_tokens"] for phase in modes(kind)]
    for token, label in zip(ids, labels, strict=True):
        opened += token == BYTES["transition"]
        counted += label != IGNORED
        filled = sum(max(counted - 1, 0) >= sum(budgets[: number + 1]) for number in range(2))
        phases.append(min(opened, 2) if transition == "token" else filled)
        if token == BYTES["eos"]:
            opened = counted = 0
    return phases


def seen(phases: list[int], labels: list[int], place: int, kind: str) -> list[int]:
    """The places before one that its token is predicted from."""
    shares = [phase["kv_share"] for phase in modes(kind)[:-1]] + [True]
    # A prompt has no labels: what stands before the first one, and behind the last phase
    is_prompt = [label == IGNORED for label in labels]
    runs = [[index for index, _ in run] for _, run in groupby(enumerate(phases), lambda item: item[1])]
    return [
        index
        for run in runs
        for index in run
        if index < place and (shares[phases[index]] or is_prompt[index] or place in run)
    ]


TURNS = ((4, 6, 5), (1, 3, 2), (4, 6, 1))


def batch(transition: str) -> dict[str, torch.Tensor]:
    """Three rows of one or two turns, padded on the left."""
    full = TURNS[0]
    turns = [sequence(0, TURNS[0], transition), sequence(1, TURNS[1] if transition == "token" else full, transition, 2)]
    both = [
        a + b
        for a, b in zip(turns[0], sequence(2, TURNS[2] if transition == "token" else full, transition), strict=True)
    ]
    rows = [turns[0], turns[1], tuple(both)]
    width = max(len(ids) for ids, _ in rows)
    filled = {"input_ids": BYTES["pad"], "labels": IGNORED}
    columns = {
        name: torch.tensor([[value] * (width - len(row[number])) + row[number] for row in rows])
        for number, (name, value) in enumerate(filled.items())
    }
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids, _ in rows]
    return {**columns, "attention_mask": torch.tensor(mask)}


@torch.no_grad()
def expected(
    lm: Any, inputs: dict[str, torch.Tensor], kind: str, transition: str
) -> tuple[dict[Any, torch.Tensor], float]:
    """The logits behind each label, by row and place, and the loss: one forward pass a label, of what it sees."""
    logits, total, count = {}, 0.0, 0
    for row, (ids, labels, mask) in enumerate(
        zip(*(inputs[name].tolist() for name in ("input_ids", "labels", "attention_mask")), strict=True)
    ):
        start = len(mask) - sum(mask)
        ids, labels = ids[start:], labels[start:]
        phases = phases_of(ids, labels, kind, transition)
        for place, label in enumerate(labels):
            if label != IGNORED:
                context = [ids[index] for index in seen(phases, labels, place, kind)]
                found = lm(torch.tensor([context]), use_cache=False).logits[0, -1]
                logits[row, start + place] = found
                weight = modes(kind)[phases[place]]["loss_weight"]
                total += weight * float(torch.nn.functional.cross_entropy(found, torch.tensor(label)))
                count += 1
    return logits, total / count


@pytest.mark.parametrize("transition", ["token", "budget"])
@pytest.mark.parametrize("kind", ["all", "restarted", "restarted_twice", "shared", "weighted"])
def test_each_label_weighs_as_its_phase_and_is_predicted_from_what_it_may_see(kind: str, transition: str) -> None:
    lm = model(kind, transition)
    inputs = batch(transition)
    with torch.no_grad():
        output = lm(**inputs)
    logits, loss = expected(lm, inputs, kind, transition)
    for (row, place), wanted in logits.items():
        torch.testing.assert_close(output.logits[row, place - 1], wanted, rtol=2e-5, atol=2e-5)
    assert output.loss.item() == pytest.approx(loss, rel=1e-5)
    assert output.logits.shape == (*inputs["input_ids"].shape, 264)


@pytest.mark.parametrize("kind", ["all", "restarted_twice"])
def test_training_sees_what_generation_has_seen(kind: str) -> None:
    lm = model(kind, "token")
    (prompt,) = prompts(7)
    ids = lm.generate(
        torch.tensor([prompt]),
        do_sample=False,
        logits_processor=[Urge()],
        **({"keep_hidden_phases": True} if kind == "all" else {}),
    )
    labels = ids.clone()
    labels[:, : len(prompt)] = IGNORED
    with torch.no_grad():
        logits = lm(ids, labels=labels).logits[:, len(prompt) - 1 : -1]
    budgets, used = [phase["max_tokens"] for phase in modes(kind)], 0
    phase = 0
    for place, token in enumerate(ids[0, len(prompt) :].tolist()):
        scores = Urge()(ids[:, : len(prompt) + place], logits[:, place])[0]
        scores[BYTES["transition"] if phase == 2 else BYTES["eos"]] = -torch.inf
        ends = BYTES["eos"] if phase == 2 else BYTES["transition"]
        assert token == (ends if used == budgets[phase] else int(scores.argmax()))
        used = 0 if token == ends else used + 1
        phase += token == ends


@pytest.mark.parametrize("kind", ["all", "restarted"])
def test_parts_of_a_batch_add_up(kind: str) -> None:
    lm = model(kind, "token")
    inputs = batch("token")
    whole = lm(**inputs).loss
    count = (inputs["labels"][:, 1:] != IGNORED).sum()
    parts = [
        lm(**{name: value[row : row + 1] for name, value in inputs.items()}, num_items_in_batch=count).loss
        for row in range(3)
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_weights_of_one_leave_the_loss_as_it_is_without_phases() -> None:
    lm = model("shared", "token")
    inputs = batch("token")
    output = lm(**inputs)
    labels = inputs["labels"][:, 1:].flatten()
    plain = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1).float(), labels)
    torch.testing.assert_close(output.loss, plain)


@pytest.mark.parametrize("kind", ["all", "restarted", "shared"])
def test_every_parameter_has_a_gradient(kind: str) -> None:
    lm = model(kind, "token").train()
    lm(**batch("token")).loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in lm.parameters())


def test_a_phase_without_weight_has_no_gradient_of_its_own() -> None:
    lm = model("all", "token")
    ids, labels = sequence(0, (4, 6, 5), "token")
    opened = [place for place, token in enumerate(ids) if token == BYTES["transition"]]
    logits = lm(torch.tensor([ids]), labels=torch.tensor([labels]))
    logits.logits.retain_grad()
    logits.loss.backward()
    gradient = logits.logits.grad[0].abs().sum(dim=-1)
    # What opens a phase weighs as that phase does
    for place in range(1, len(ids)):
        is_labelled = labels[place] != IGNORED and not opened[0] <= place < opened[1]
        assert bool(gradient[place - 1] > 0) == is_labelled, place


def test_sequences_with_phases_that_begin_anew_are_passed_whole() -> None:
    lm = model("restarted", "token")
    ids = torch.tensor([sequence(0, (4, 6, 5), "token")[0]])
    positions = torch.arange(ids.shape[1])[None]
    cache = lm(ids[:, :3], use_cache=True).past_key_values
    embeddings = lm.get_input_embeddings()(ids)
    for odd in ({"position_ids": positions}, {"past_key_values": cache}):
        with pytest.raises(ValueError, match="pass it whole"):
            lm(ids, labels=ids, **odd)
    with pytest.raises(ValueError, match="pass it whole"):
        lm(inputs_embeds=embeddings, labels=ids)
    assert lm(ids, position_ids=positions).loss is None


def test_labels_tell_phases_apart_where_there_are_no_ids() -> None:
    weighted = model("weighted", "token")
    ids, labels = (torch.tensor([row]) for row in sequence(0, (4, 6, 5), "token"))
    embeddings = weighted.get_input_embeddings()(ids)
    torch.testing.assert_close(
        weighted(inputs_embeds=embeddings, labels=labels).loss, weighted(ids, labels=labels).loss
    )


def test_the_first_token_of_a_row_is_a_prompt_at_least() -> None:
    lm = model("restarted_twice", "budget")
    (prompt,) = prompts(1)
    ids = lm.generate(torch.tensor([prompt]), do_sample=False, suppress_tokens=[BYTES["eos"]])
    phases = modes("restarted_twice")
    places = {phase["name"]: sum(each["max_tokens"] for each in phases[:number]) for number, phase in enumerate(phases)}
    with torch.no_grad():
        logits = lm(ids, labels=ids).logits
        for name, place in places.items():
            wanted = lm(torch.tensor([prompt])).logits[0, -1]
            torch.testing.assert_close(logits[0, place], wanted, rtol=2e-5, atol=2e-5, msg=name)
