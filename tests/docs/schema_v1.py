"""`docs/language/schema_v1.yaml`: a row for each key of schema v1, and what differs between specs that differ in it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml
from attrs import field, frozen

from eulerc.api import compile, lint, load
from eulerc.backends.hf.build import Options, text_files
from eulerc.diagnostics.model import Diagnostics
from eulerc.ir.numbers import tensor_plan
from eulerc.ir.stats import statistics
from tests.docs.markdown import ROOT

DATA = ROOT / "docs/language/schema_v1.yaml"
PAGE = ROOT / "docs/language/schema_v1.md"

BLOCK = {"mixer": {"type": "attention"}, "ffn": {"type": "gated_mlp"}}
BASE = {
    "schema_version": 1,
    "model": {"name": "kestrel", "d_model": 64, "vocab_size": 600, "max_seq_len": 64, "n_heads": 4, "dtype": "float32"},
    "tokenizer_contract": {"type": "hf", "pretrained": "bytes"},
    "embedding": {"type": "learned", "positional": "rope"},
    "layer_templates": {"block": BLOCK, "other": {"mixer": {"type": "attention"}, "ffn": {"type": "mlp"}}},
    "layer_schedule": [{"template": "block", "repeat": 3}, {"template": "other"}],
    "head": {"type": "causal_lm"},
}
OF_TEMPLATES = ("mixer", "ffn", "norm", "residual", "state", "memory", "shape_change")
MIXERS = {"attention": "attention", "mamba": "mamba", "retnet": "retnet", "hyena": "hyena"} | {
    "branched": "branched",
    "ttt": "ttt_layer",
}
NEEDS: dict[str, dict[str, Any]] = {
    "moe": {"ffn.type": "moe", "moe.experts": 8, "moe.top_k": 2},
    **{block: {"mixer.type": name} for block, name in MIXERS.items()},
}
"""What the keys of a block need before they can stand there."""

NAMES = ("architectures", "auto_map", "model_type")
TOKENIZER = ("tokenizer", "special_tokens", "vocab", "merges")
EXTENSIONS = ("experimental", "future", "vendor")


@frozen
class Refusal:
    """A condition in words, keys that meet it, and the code it is refused with."""

    when: str
    code: str
    set: Mapping[str, Any]


@frozen
class Row:
    """One key, or one word that it takes: what it says, and which parts of the result differ by it.

    `value` is compared with the key's absence, or with what `given` sets; `given` holds on both sides, `also` on that
    of the value.
    """

    key: str
    says: str
    value: Any = None
    given: Mapping[str, Any] = field(factory=dict)
    also: Mapping[str, Any] = field(factory=dict)
    changes: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()

    @property
    def path(self) -> str:
        return self.key.split(": ")[0]

    @property
    def wanted(self) -> Any:
        return self.key.split(": ")[1] if ": " in self.key else self.value


def rows() -> tuple[Row, ...]:
    """The rows as the file has them."""
    return tuple(_row(raw) for raw in yaml.safe_load(DATA.read_text(encoding="utf-8")))


def _row(raw: dict[str, Any]) -> Row:
    path = raw["key"].split(": ")[0]
    refusals = tuple(
        Refusal(each["when"], each["code"], each["set"] if "set" in each else {path: each["value"]})
        for each in raw.pop("refused", ())
    )
    return Row(**{**raw, "changes": tuple(raw.get("changes", ())), "refused": refusals})


def steps(path: str) -> list[str | int]:
    """Where a key of the table stands in a spec."""
    first, *rest = path.split(".")
    if first in EXTENSIONS:
        return [path]
    if first == "layer_schedule[]":
        return ["layer_schedule", 0, *rest]
    if first.endswith("[]"):
        return [first.removesuffix("[]")]
    template: list[str | int] = ["layer_templates", "block"]
    if first in MIXERS:
        return [*template, "mixer", first, *rest]
    if first == "moe":
        return [*template, "ffn", "moe", *rest]
    return [*template, first, *rest] if first in OF_TEMPLATES else [first, *rest]


def put(spec: Any, path: str, value: Any) -> None:
    """Sets a key; None takes it out."""
    *outer, last = steps(path)
    for step in outer:
        if value is None and not isinstance(step, int) and step not in spec:
            return
        spec = spec[step] if isinstance(step, int) else spec.setdefault(step, {})
    if value is None:
        spec.pop(last, None)
    else:
        spec[last] = copy.deepcopy(value)


def written(row: Row, *settings: Mapping[str, Any]) -> dict[str, Any]:
    """The base spec with what a row's block needs, and with keys set, in order."""
    spec = copy.deepcopy(BASE)
    for paths in (NEEDS.get(row.path.split(".")[0], {}), *settings):
        for path, value in paths.items():
            put(spec, path, value)
    return spec


def without(row: Row) -> dict[str, Any]:
    """The spec without a row's value."""
    return written(row, row.given)


def having(row: Row) -> dict[str, Any]:
    """The same with it."""
    return written(row, row.given, row.also, {row.path: row.wanted})


def findings(spec: Mapping[str, Any]) -> set[str]:
    """The codes of errors and warnings."""
    return {item.code for item in lint("v1.yaml", _text(spec)).diagnostics if item.severity != "note"}


def _text(spec: Mapping[str, Any]) -> bytes:
    return json.dumps(spec).encode()


def results(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a spec becomes, by the names that the column `changes` uses."""
    diagnostics = Diagnostics()
    loaded = load("v1.yaml", diagnostics, _text(spec))
    module = None if loaded is None else compile(loaded, diagnostics)
    assert loaded is not None and module is not None, diagnostics.items
    files = text_files(module, loaded, Options())
    return {
        **_by_file(files),
        "tensors": {plan.name: (plan.shape, plan.dtype, plan.tied_to, plan.trained) for plan in tensor_plan(module)},
        "init": {plan.name: (str(plan.init), module.one("spec")["seed"]) for plan in tensor_plan(module)},
        "stats": {key: value for key, value in statistics(module).items() if key != "model"},
        "lint": findings(spec),
    }


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """The names of what differs; of how tensors start, among those that both have."""
    found = {name for name in before if name != "init" and before[name] != after[name]}
    common = before["init"].keys() & after["init"].keys()
    return found | ({"init"} if any(before["init"][name] != after["init"][name] for name in common) else set())


def _by_file(files: Mapping[str, bytes]) -> dict[str, Any]:
    modeling = next(text.decode() for name, text in files.items() if name.startswith("modeling_"))
    config = json.loads(files["config.json"])
    return {
        "name": {key: config[key] for key in NAMES},
        "config": {key: value for key, value in config.items() if key not in NAMES},
        "generation": files["generation_config.json"],
        "code": _structure(modeling, config["architectures"][0].removesuffix("ForCausalLM")),
        "training": (files.get("training_hints.json"), files.get("training.py")),
        "tokenizer": {name: text for name, text in files.items() if name.startswith(TOKENIZER)},
        "card": re.findall(rb"^Descended from .*$", files["README.md"], re.MULTILINE),
    }


def _structure(modeling: str, prefix: str) -> str:
    """A modeling file without its config class, whose numbers are the config's, and without its model's name."""
    code = re.sub(r"@auto_docstring\(checkpoint.*?\n\n\n(?=\S)", "", modeling, count=1, flags=re.DOTALL)
    return re.sub(prefix, "", code, flags=re.IGNORECASE)
