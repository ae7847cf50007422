"""Streams of layers, and streams of the residual, against what they mean, written out over the built models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "generic"))
from builds import ROOT, close, read, tokens
from transformers import AutoModelForCausalLM
from transformers.masking_utils import create_causal_mask

from eulerc.backends.hf.build import Options, build
from eulerc.ir.numbers import layer_types
from tests.variants.building import PLAIN, block, spec

FORK = (
    "  - template: block\n"
    "  - parallel:\n"
    "      - {{stream: one, body: [{{template: block, repeat: 2}}]}}\n"
    "      - {{stream: two, body: [{{template: block}}]}}\n"
    "    merge: {{{merge}}}"
)


def built(name: str, text: str) -> Any:
    """A model of a spec, its weights as the build has drawn them."""
    loaded, module = read(text)
    build(module, loaded, ROOT / name, Options(tokenizer=False))
    return AutoModelForCausalLM.from_pretrained(ROOT / name, trust_remote_code=True, attn_implementation="eager").eval()


def perturbed(lm: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return lm


def added(base: Any, start: torch.Tensor, one: torch.Tensor, two: torch.Tensor, run: Any) -> torch.Tensor:
    return one + two


def side_by_side(base: Any, start: torch.Tensor, one: torch.Tensor, two: torch.Tensor, run: Any) -> torch.Tensor:
    return torch.cat([one, two], dim=-1)


def projected(base: Any, start: torch.Tensor, one: torch.Tensor, two: torch.Tensor, run: Any) -> torch.Tensor:
    first, second = base.merge.weight.split([64, 64], dim=1)
    return one @ first.T + two @ second.T


def weighed(base: Any, start: torch.Tensor, one: torch.Tensor, two: torch.Tensor, run: Any) -> torch.Tensor:
    shares = torch.exp(start @ base.merge.proj.weight.T)
    shares = shares / shares.sum(dim=-1, keepdim=True)
    return shares[..., :1] * one + shares[..., 1:] * two


def crossed(base: Any, start: torch.Tensor, one: torch.Tensor, two: torch.Tensor, run: Any) -> torch.Tensor:
    return run(4, one, key_value_states=two)


MERGES = {
    "type: add": added,
    "projection: false": side_by_side,
    "type: concat": projected,
    "type: gated": weighed,
    "type: cross_attn, from: two, to: one": crossed,
}


@pytest.mark.parametrize("merge", MERGES)
@torch.no_grad()
def test_streams_read_one_state_and_come_together(merge: str) -> None:
    text = spec(f"fork{list(MERGES).index(merge)}", PLAIN, FORK.format(merge=merge), rest="head: {tie_weights: false}")
    lm = perturbed(built(f"fork{list(MERGES).index(merge)}", text))
    ids = tokens(2, 9)
    base, positions = lm.model, torch.arange(9)[None]
    states = base.embed_tokens(ids)
    mask = create_causal_mask(config=lm.config, inputs_embeds=states, attention_mask=None, past_key_values=None)
    tables = base.rotary_emb(states, positions)

    def run(layer: int, states: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        return base.layers[layer](states, position_embeddings=tables, attention_mask=mask, **more)

    start = run(0, states)
    merged = MERGES[merge](base, start, run(2, run(1, start)), run(3, start), run)
    assert close(lm(ids, use_cache=False).logits, lm.lm_head(base.norm(merged)))


@torch.no_grad()
def test_a_stream_attends_to_the_other_up_to_its_own_place() -> None:
    """Heads of the stream that goes on ask, and those of the other answer (Vaswani et al. 2017, eq. 1)."""
    text = spec("crossing", PLAIN, FORK.format(merge="type: cross_attn"), embedding="  positional: none")
    layer = perturbed(built("crossing", text)).model.layers[-1]
    generator = torch.Generator().manual_seed(1)
    one, two = (torch.randn(1, 7, 64, generator=generator) for _ in range(2))
    causal = torch.full((7, 7), -torch.inf).triu(1)
    output = layer(one, key_value_states=two, attention_mask=causal[None, None])
    normed_one, normed_two = layer.input_layernorm(one)[0], layer.key_value_layernorm(two)[0]
    attention = layer.cross_attn
    heads = []
    for head in range(4):
        rows = slice(16 * head, 16 * head + 16)
        queries = normed_one @ attention.q_proj.weight[rows].T
        keys, values = (normed_two @ part.weight[rows].T for part in (attention.k_proj, attention.v_proj))
        heads.append(torch.softmax(queries @ keys.T / 4 + causal, dim=-1) @ values)
    assert close(output[0], one[0] + torch.cat(heads, dim=-1) @ attention.o_proj.weight.T)


def test_every_layer_of_a_stream_and_the_merge_by_attention_have_a_slot() -> None:
    _, module = read(spec("slots", PLAIN, FORK.format(merge="type: cross_attn")))
    assert layer_types(module) == ["full_attention"] * 5
    _, module = read(spec("slots", PLAIN, FORK.format(merge="type: add")))
    assert layer_types(module) == ["full_attention"] * 4


@pytest.mark.parametrize("mixing", ["unconstrained", "learned_lowrank"])
@torch.no_grad()
def test_hyper_connections_begin_as_a_plain_residual(mixing: str) -> None:
    """At first every stream is what a plain residual is (Zhu et al. 2024, eq. 14); a norm takes their number out."""
    residual = f"type: hyper_connection, hyper: {{expand: 3, mixing: {mixing}}}"
    schedule = "  - {template: block, repeat: 3}"
    tiny = "  norm_eps: 1e-12"
    plain = built("unstreamed", spec("unstreamed", block(), schedule, model=tiny))
    streamed = built(f"streamed_{mixing}", spec(f"streamed_{mixing}", block(residual=residual), schedule, model=tiny))
    ids = tokens(2, 9)
    torch.testing.assert_close(streamed(ids).logits, plain(ids).logits, atol=1e-5, rtol=1e-5)
    assert not close(perturbed(streamed)(ids).logits, perturbed(plain)(ids).logits)
