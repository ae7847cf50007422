"""`eulerc schema` is a JSON Schema that takes what the compiler takes and refuses what it refuses."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from eulerc.cli.main import app
from eulerc.diagnostics.model import Diagnostics
from eulerc.frontend.compose import load
from eulerc.frontend.schema import plain
from eulerc.presets.catalogue import catalogue
from tests.cli.schema_check import complaints
from tests.variants import VARIANTS

SCHEMA: dict[str, Any] = json.loads(CliRunner().invoke(app, ["schema"]).stdout)
SPECS = {name: path.read_text(encoding="utf-8") for name, path in catalogue().items()} | VARIANTS


def read(text: str) -> Any:
    """A spec as YAML 1.2 reads it, expressions as written."""
    spec = load(None, text.encode(), Diagnostics())
    assert spec is not None
    return plain(spec.merged)


SPEC = read(VARIANTS["llama"])


def test_it_says_which_draft_it_is() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


# The schema knows eulerc's own types, and not those of an extension
@pytest.mark.parametrize("name", [name for name in SPECS if name != "extension"])
def test_every_preset_and_every_variant_fits(name: str) -> None:
    assert list(complaints(read(SPECS[name]), SCHEMA, SCHEMA)) == []


def test_expressions_and_reserved_keys_fit() -> None:
    spec = copy.deepcopy(SPEC)
    spec["model"]["d_model"] = "${4 * 16}"
    spec["experimental.x"] = {"any": ["thing"]}
    spec["layer_templates"]["block"]["vendor.acme.y"] = 1
    spec["model"]["future.z"] = None
    assert list(complaints(spec, SCHEMA, SCHEMA)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "d_model"), "64"),
        (("model", "d_model"), 64.5),
        (("model", "d_model"), True),
        (("model", "d_model"), 0),
        (("model", "hidden_size"), 64),
        (("model", "dtype"), "float64"),
        (("embedding", "positional"), "alibii"),
        (("layer_templates", "block", "ffn", "type"), "gated"),
        (("layer_templates", "block", "ffn", "experts"), 4),
        (("layer_templates", "block", "norm"), {"position": "before"}),
        (("layer_schedule",), []),
        (("schema_version",), 2),
    ],
)
def test_what_the_compiler_refuses_does_not_fit(path: tuple[str, ...], value: Any) -> None:
    spec = copy.deepcopy(SPEC)
    *parents, key = path
    block = spec
    for name in parents:
        block = block[name]
    block[key] = value
    assert list(complaints(spec, SCHEMA, SCHEMA)) != []


def test_every_key_of_a_block_has_a_description() -> None:
    blocks = [name for name, schema in SCHEMA["properties"].items() if schema.get("additionalProperties") is False]
    assert len(blocks) >= 6
    for name in blocks:
        assert all(each["description"] for each in SCHEMA["properties"][name]["properties"].values())
