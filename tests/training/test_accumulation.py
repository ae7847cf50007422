"""Gradient accumulation gives what one big batch gives; auxiliary losses count by their share of the labels."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from eulerc.api import build
from tests.variants import VARIANTS

SPECS = {
    "dense": VARIANTS["llama"],
    "routed": VARIANTS["moe_losses"].replace("router_jitter: 0.1, ", ""),
}


def fresh(name: str, folder: Path) -> Any:
    """A model of a spec, in training mode."""
    (folder / "spec.yaml").write_text(SPECS[name])
    build(folder / "spec.yaml", folder / "model", tokenizer=False)
    return AutoModelForCausalLM.from_pretrained(folder / "model", trust_remote_code=True).train()


def batch(rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Rows of random tokens of which ever fewer have labels."""
    ids = torch.randint(3, 99, (rows, 12), generator=torch.Generator().manual_seed(seed))
    labels = ids.clone()
    for row in range(rows):
        labels[row, : 2 * row + 1] = -100
    return {"input_ids": ids, "labels": labels}


def part(whole: dict[str, torch.Tensor], rows: slice) -> dict[str, torch.Tensor]:
    return {key: value[rows] for key, value in whole.items()}


def count(labels: torch.Tensor) -> torch.Tensor:
    """The labels that are predicted: the first of a row never is."""
    return (labels[:, 1:] != -100).sum()


def gradients(model: Any, *losses: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients that several backward passes leave."""
    model.zero_grad()
    for loss in losses:
        loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    for name, gradient in wanted.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_uneven_parts_add_up_to_the_big_batch(tmp_path: Path) -> None:
    model = fresh("dense", tmp_path)
    whole = batch(4)
    items = count(whole["labels"])
    big = model(**whole).loss
    parts = [model(**part(whole, rows), num_items_in_batch=items).loss for rows in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), big)
    assert_same(gradients(model, *parts), gradients(model, big))


def test_equal_parts_add_up_with_the_auxiliary_losses(tmp_path: Path) -> None:
    model = fresh("routed", tmp_path)
    half = batch(3)
    whole = {key: torch.cat((value, value)) for key, value in half.items()}
    items = count(whole["labels"])
    big = model(**whole).loss
    parts = [model(**half, num_items_in_batch=items).loss for _ in range(2)]
    torch.testing.assert_close(sum(parts), big)
    assert_same(gradients(model, *parts), gradients(model, big))


@torch.no_grad()
def test_auxiliary_losses_of_uneven_parts_count_by_their_share_of_the_labels(tmp_path: Path) -> None:
    model = fresh("routed", tmp_path)
    plain = copy.deepcopy(model)
    plain.config.router_aux_loss_coef = plain.config.router_z_loss_coef = 0.0
    whole = batch(4)
    items = count(whole["labels"])
    for rows in (slice(0, 1), slice(1, 4)):
        piece = part(whole, rows)
        share = count(piece["labels"]) / items
        alone = model(**piece).loss - plain(**piece).loss
        accumulated = model(**piece, num_items_in_batch=items).loss - plain(**piece, num_items_in_batch=items).loss
        assert alone > 0.05
        torch.testing.assert_close(accumulated, share * alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SPECS)
def test_the_trainer_takes_the_same_step_with_accumulation_and_without(name: str, tmp_path: Path) -> None:
    start = fresh(name, tmp_path)
    # Routers balance a batch as a whole, so only equal parts give their losses' sum.
    whole = batch(4) if name == "dense" else {key: value.repeat(4, 1) for key, value in batch(1).items()}
    rows = [{key: value[row] for key, value in whole.items()} for row in range(4)]
    weights = []
    for size, accumulation in ((4, 1), (2, 2), (1, 4)):
        model = copy.deepcopy(start)
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            optim="sgd",
            learning_rate=1.0,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            max_steps=1,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
        )
        Trainer(model=model, args=arguments, train_dataset=rows).train()
        weights.append({key: value.detach() for key, value in model.named_parameters()})
    assert not torch.equal(weights[0]["model.norm.weight"], start.model.norm.weight)
    for other in weights[1:]:
        assert_same(other, weights[0])
