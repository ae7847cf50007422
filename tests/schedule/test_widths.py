"""Streams that change their width, against the layers and projections of the built model written out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "generic"))
from builds import ROOT, close, directory, model, read, tokens
from transformers import AutoModelForSequenceClassification
from transformers.masking_utils import create_causal_mask

from eulerc.api import lint
from eulerc.backends.hf.build import Options, build
from eulerc.ir.numbers import stream_width, tensor_plan
from tests.variants.building import block, spec

WIDENING = block(name="widening") + "    shape_change: {d_out: 96}\n"
LINEAR = spec(
    "widened",
    WIDENING + block(),
    "  - template: block\n  - template: widening\n  - {template: block, repeat: 2}",
    rest="head: {tie_weights: false}",
)


@torch.no_grad()
def test_a_layer_is_followed_by_its_projection() -> None:
    """The second layer's result times a matrix, and nothing else, is what the third one reads."""
    loaded, module = read(LINEAR)
    build(module, loaded, ROOT / "widened", Options(tokenizer=False))
    source = next((ROOT / "widened").glob("modeling_*.py")).read_text()
    assert source.count("self.shape_change(") == 1
    from transformers import AutoModelForCausalLM

    lm = AutoModelForCausalLM.from_pretrained(ROOT / "widened", trust_remote_code=True, attn_implementation="eager")
    ids = tokens(2, 9)
    base, states = lm.model, lm.model.embed_tokens(ids)
    mask = create_causal_mask(
        config=lm.config.per_layer_config[0], inputs_embeds=states, attention_mask=None, past_key_values=None
    )
    for index, layer in enumerate(base.layers):
        config = lm.config.per_layer_config[index]
        assert states.shape[-1] == config.stream_size
        label = f"{layer.self_attn.head_dim}"
        assert label == f"{config.stream_size // 4}"
        change, layer.shape_change = getattr(layer, "shape_change", None), torch.nn.Identity()
        tables = rotary(base, states, index)
        states = layer(states, position_embeddings=tables, attention_mask=mask)
        if change is not None:
            states = states @ change.weight.T
            layer.shape_change = change
    assert states.shape[-1] == lm.config.hidden_size == 96
    assert close(lm(ids, use_cache=False).logits, lm.lm_head(base.norm(states)))


def rotary(base: torch.nn.Module, states: torch.Tensor, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The table of one layer: heads of two widths have two."""
    width = base.layers[index].self_attn.head_dim
    angles = torch.arange(states.shape[1])[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    angles = torch.cat((angles, angles), dim=-1)[None]
    return angles.cos(), angles.sin()


def test_one_template_at_two_widths_is_two_instances() -> None:
    _, module = read(LINEAR, stage="layers")
    widths = {str(op.symbol): stream_width(op) for op in module.all("template")}
    assert widths == {"block": 64, "widening": 64, "block__2": 96}
    shapes = {plan.name: plan.shape for plan in tensor_plan(read(LINEAR)[1])}
    assert shapes["model.layers.1.shape_change.weight"] == (96, 64)
    assert shapes["model.layers.2.self_attn.q_proj.weight"] == (96, 96)
    assert shapes["model.layers.2.mlp.up_proj.weight"][1] == 96
    assert shapes["model.norm.weight"] == (96,)
    assert shapes["lm_head.weight"] == (99, 96)


def test_task_heads_read_the_last_width() -> None:
    head = AutoModelForSequenceClassification.from_pretrained(
        directory("shape_changes"), trust_remote_code=True, num_labels=3, pad_token_id=0
    )
    assert head.score.weight.shape == (3, 96)
    assert head(tokens(2, 9)).logits.shape == (2, 3)


@torch.no_grad()
def test_a_projection_to_the_same_width_changes_no_size() -> None:
    lm = model("shape_kept")
    config = json.loads((directory("shape_kept") / "config.json").read_text())
    assert not config.keys() & {"stream_size", "embedding_size", "per_layer_config"}
    assert lm.model.layers[0].shape_change.down_proj.weight.shape == (64, 64)


@pytest.mark.parametrize(
    ("schedule", "rest", "codes"),
    [
        ("  - loop: {times: 2, body: [{template: widening}]}", "head: {tie_weights: false}", {"E0730"}),
        (
            "  - {template: block, share: a}\n  - template: widening\n  - {template: block, share: a}",
            "head: {tie_weights: false}",
            {"E0730"},
        ),
        ("  - integrator: {type: ode_rk4, steps: 1, body: widening}", "head: {tie_weights: false}", {"E0731"}),
        ("  - template: widening", "", {"E0732"}),
        (
            "  - template: widening",
            "head: {type: causal_lm_mtp, mtp: {head_template: block}, tie_weights: false}",
            {"E0735"},
        ),
    ],
)
def test_widths_that_do_not_meet_are_refused(schedule: str, rest: str, codes: set[str]) -> None:
    text = spec("refused", WIDENING + block(), schedule, rest=rest)
    found = {item.code for item in lint("spec.yaml", text.encode()).diagnostics if item.severity == "error"}
    assert found == codes
