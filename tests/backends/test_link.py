"""The linker: what it includes, in which order, under which names, with which imports."""

from __future__ import annotations

import ast
import io
import keyword
import re
import subprocess
import sys
import sysconfig
import tokenize
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eulerc.backends.hf.imports import Import, ImportConflictError, ImportSet
from eulerc.backends.hf.link import Linked, LinkError, Request, link
from eulerc.backends.hf.names import names_in, rename
from eulerc.backends.hf.specialise import SpecialiseError

ATTENTION = '''
    """Attention."""

    import math
    import os

    import torch.nn.functional as F
    from torch import Tensor, nn
    from transformers import PreTrainedConfig
    from transformers.cache_utils import Cache
    from transformers.integrations import use_kernel

    from eulerc.backends.hf.components.norms import RMSNorm as Norm
    from eulerc.backends.hf.components.rotary import rotate

    SCALE = 0.5
    Dropout = nn.Dropout


    def repeat(x: Tensor) -> Tensor:
        """Repeats."""
        return x * SCALE


    # Softmax comes last
    def eager(x: Tensor) -> Tensor:
        return F.softmax(repeat(x), dim=math.inf)


    def reference(x: Tensor) -> str:
        return os.sep


    @use_kernel("Attention")
    class Attention(nn.Module):
        """Attention is not the Attention2 of others."""

        def __init__(self, config: PreTrainedConfig) -> None:
            # An Attention
            self.name = "Attention"
            self.kind = Attention
            self.drop = Dropout(0.1)
            if config.norm:
                self.norm = Norm(2)

        def forward(self, x: Tensor, cache: int) -> Tensor:
            if self.config.rope:
                x = rotate(x)
            return eager(x, Norm=cache, other=f"{Attention.__name__} {x:Attention}")
'''

FILES = {
    "attention": ATTENTION,
    "norms": '''
        """Norms."""

        from torch import nn


        class RMSNorm(nn.Module):
            """A norm."""

            eps = 1e-6
    ''',
    "rotary": '''
        """Rotations."""

        import math


        def half(x):
            return x / math.tau


        def rotate(x):
            return half(x)
    ''',
}


@pytest.fixture
def components(tmp_path: Path) -> Path:
    for stem, text in FILES.items():
        write(tmp_path, stem, text)
    return tmp_path


def write(directory: Path, stem: str, text: str) -> None:
    (directory / f"{stem}.py").write_text(dedent(text).lstrip("\n"))


def names(linked: Linked) -> list[str]:
    return [definition.name for definition in linked.definitions]


def text_of(linked: Linked, name: str) -> str:
    return next(definition.text for definition in linked.definitions if definition.name == name)


def attention(**changes: object) -> Request:
    facts = {"norm": True, "rope": True, **changes.pop("facts", {})}
    return Request("attention", ("Attention",), facts=facts, **changes)


def linked_text(directory: Path, stem: str, text: str, *names: str, **changes: object) -> Linked:
    write(directory, stem, text)
    return link([Request(stem, names, **changes)], directory)


# What is reached


def test_everything_reachable_comes_before_what_uses_it(components):
    linked = link([attention()], components)
    assert names(linked) == ["RMSNorm", "half", "rotate", "SCALE", "repeat", "eager", "Attention"]


def test_what_a_fact_removes_is_not_reached_and_its_imports_are_pruned(components):
    linked = link([attention(facts={"norm": False, "rope": False})], components)
    assert names(linked) == ["SCALE", "repeat", "eager", "Attention"]
    assert "Norm(" not in text_of(linked, "Attention")
    assert linked.imports.render() == (
        "import math\n\nimport torch.nn.functional as F\nfrom torch import Tensor, nn\n"
        "from transformers import PreTrainedConfig\nfrom transformers.integrations import use_kernel"
    )


def test_comment_above_a_definition_comes_with_it(components):
    linked = link([attention()], components)
    assert text_of(linked, "eager").startswith("# Softmax comes last\ndef eager(")
    assert text_of(linked, "SCALE") == "SCALE = 0.5"


def test_requests_keep_their_order_and_share_helpers(components):
    requests = [Request("rotary", ("rotate",)), attention(), Request("norms", ("RMSNorm",))]
    assert names(link(requests, components)) == ["half", "rotate", "RMSNorm", "SCALE", "repeat", "eager", "Attention"]


def test_guarded_import_is_one_definition_of_all_its_names(components):
    text = """
        from os import environ

        try:
            from kernels import conv, scan as fast_scan
        except ImportError:
            conv = fast_scan = None


        def forward(x):
            return x if fast_scan is None else fast_scan(x, conv)
    """
    linked = linked_text(components, "guarded", text, "forward")
    assert names(linked) == ["conv", "forward"]
    assert text_of(linked, "conv").startswith("try:\n    from kernels import conv")
    assert linked.imports == ImportSet()


def test_mutual_recursion_ends(components):
    text = """
        def even(n):
            return n == 0 or odd(n - 1)


        def odd(n):
            return n != 0 and even(n - 1)
    """
    assert names(linked_text(components, "parity", text, "even")) == ["odd", "even"]


# Names


def test_class_is_renamed_in_code_and_docstrings_only(components):
    linked = link([attention(rename={"Attention": "KestrelAttention", "repeat": "kestrel_repeat"})], components)
    text = text_of(linked, "KestrelAttention")
    assert '"""KestrelAttention is not the Attention2 of others."""' in text
    assert "# An Attention\n" in text
    assert 'self.name = "Attention"' in text
    assert "self.kind = KestrelAttention\n" in text
    assert 'f"{KestrelAttention.__name__}' in text
    assert text.startswith('@use_kernel("Attention")\nclass KestrelAttention(nn.Module):')
    assert "kestrel_repeat(x)" in text_of(linked, "eager")
    assert "def kestrel_repeat(x: Tensor)" in text_of(linked, "kestrel_repeat")


def test_slot_takes_the_place_of_its_name_but_not_of_a_keyword(components):
    linked = link([attention(slots={"Norm": "KestrelNorm"})], components)
    assert "RMSNorm" not in names(linked)
    assert "self.norm = KestrelNorm(2)" in text_of(linked, "Attention")
    assert "Norm=cache" in text_of(linked, "Attention")


def test_slot_may_be_an_expression_whose_import_the_component_has(components):
    linked = link([Request("norms", ("RMSNorm",), slots={"nn": "torch.nn"})], components)
    assert "class RMSNorm(torch.nn.Module)" in text_of(linked, "RMSNorm")
    linked = link([attention(slots={"Norm": "F.layer_norm"}, facts={"rope": False})], components)
    assert Import("torch.nn.functional", None, "F") in linked.imports.imports


def test_default_of_a_slot_is_linked_under_its_own_final_name(components):
    linked = link([attention(rename={"RMSNorm": "KestrelRMSNorm"})], components)
    assert names(linked)[0] == "KestrelRMSNorm"
    assert "self.norm = KestrelRMSNorm(2)" in text_of(linked, "Attention")
    assert "self.drop = nn.Dropout(0.1)" in text_of(linked, "Attention")


def test_slot_holds_in_the_files_that_are_reached(components):
    linked = link([attention(slots={"half": "quarter"})], components)
    assert "return quarter(x)" in text_of(linked, "rotate")
    assert "half" not in names(linked)


def test_renamed_import_is_left_to_others(components):
    linked = link([attention(rename={"PreTrainedConfig": "KestrelConfig"})], components)
    assert "config: KestrelConfig" in text_of(linked, "Attention")
    assert "PreTrainedConfig" not in linked.imports.names


def test_one_component_may_serve_twice_under_two_names(components):
    requests = [
        attention(facts={"rope": False}, rename={"Attention": "FlatAttention"}),
        attention(rename={"Attention": "RotaryAttention"}),
    ]
    linked = link(requests, components)
    assert names(linked) == [
        "RMSNorm",
        "SCALE",
        "repeat",
        "eager",
        "FlatAttention",
        "half",
        "rotate",
        "RotaryAttention",
    ]


def test_facts_parameters_and_sizes_reach_the_specialiser(components):
    text = """
        class Layer:
            def __init__(self, config, layer_idx):
                sizes = config.per_layer_config[layer_idx]
                self.width = sizes.width
                self.heads = sizes.heads

            def forward(self, x, mask):
                return x
    """
    options = {"drop_parameters": frozenset({"mask"}), "per_layer": frozenset({"heads"})}
    linked = linked_text(components, "layer", text, "Layer", **options)
    assert "forward(self, x):" in text_of(linked, "Layer")
    assert "self.width = config.width\n        self.heads = sizes.heads" in text_of(linked, "Layer")


# Errors


def test_two_texts_under_one_name_are_an_error(components):
    requests = [attention(), attention(facts={"rope": False})]
    with pytest.raises(LinkError, match=r"Attention already has another text, from attention\.py:\d+"):
        link(requests, components)


def test_helper_specialised_in_two_ways_is_an_error(components):
    text = """
        def helper(config):
            return 1 if config.gate else 2


        def first(config):
            return helper(config)
    """
    write(components, "helped", text)
    requests = [Request("helped", (name,), {"gate": gate}) for name, gate in (("first", True), ("helper", False))]
    with pytest.raises(LinkError, match="helper already has another text"):
        link(requests, components)
    requests = [Request("helped", (name,), {"gate": True}) for name in ("first", "helper")]
    assert names(link(requests, components)) == ["helper", "first"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("missing", ("X",)), "missing.py:1: there is no such component"),
        (Request("norms", ("LayerNorm",)), "norms.py:1: there is no definition LayerNorm, only RMSNorm"),
        (Request("norms", ("RMSNorm",), slots={"Gate": "X"}), "norms.py:1: there is no slot Gate"),
        (Request("norms", ("RMSNorm",), rename={"RMSNorm": "nn"}), "norms.py:1: nn is both imported and defined"),
    ],
)
def test_request_that_cannot_be_met_says_why(components, request_, message):
    with pytest.raises(LinkError, match=re.escape(message)):
        link([request_], components)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f():\n    return 1\n\n\nprint(f)\n", "5: a top-level statement that binds no name"),
        ("import eulerc.backends.hf.components.norms\n", "1: import the names of"),
        (
            "from eulerc.backends.hf.components.norms import Gone\n\n\ndef f():\n    return Gone\n",
            "norms.py has no Gone",
        ),
        ("def g():\n    return 1\n\n\ndef f(g):\n    return g\n", "5: g of this file is also a local name"),
    ],
)
def test_component_that_cannot_be_linked_says_why(components, text, message):
    write(components, "broken", text)
    request = Request("broken", ("f",), rename={"g": "h"})
    with pytest.raises(SpecialiseError, match=re.escape(message)):
        link([request], components)


def test_components_that_import_two_things_under_one_name_are_an_error(components):
    write(components, "first", "from os import sep\n\n\ndef f():\n    return sep\n")
    write(components, "second", "from sys import path as sep\n\n\ndef g():\n    return sep\n")
    with pytest.raises(LinkError, match=r"second\.py:1: sep is imported as os\.sep and as sys\.path"):
        link([Request("first", ("f",)), Request("second", ("g",))], components)


# The result is a module


def test_linked_module_runs_and_is_as_ruff_wants_it(components):
    write(components, "mixer", (Path(__file__).parent / "sample_components" / "mixer.py").read_text())
    facts = {"bias": True, "norm": None, "window": None, "gate": False, "rope": True}
    linked = link([Request("mixer", ("Mixer",), facts, rename={"Mixer": "KestrelMixer"})], components)
    assert names(linked) == ["Projection", "SCALE", "rotate", "KestrelMixer"]
    text = "\n\n\n".join([linked.imports.render(), *(definition.text for definition in linked.definitions)]) + "\n"
    exec(compile(text, "<linked>", "exec"), {})
    for command in (["format", "--diff"], ["check", "--select=E,F,I"]):
        arguments = [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length=120", "-q", "-"]
        result = subprocess.run(arguments, input=text, capture_output=True, text=True)
        assert (result.stdout, result.returncode) == ("", 0)


# Imports

MODULES = ["torch", "torch.nn.functional", "transformers", "transformers.cache_utils", "math", "os.path", "a10", "a9"]
MEMBERS = ["nn", "Tensor", "ALL_FUNCTIONS", "F", "ACT2FN", "aLpha", "Alpha", "alpha2", "alpha10", "_private", "x", "X1"]

imports = st.one_of(
    st.builds(Import, st.sampled_from(MODULES), st.none(), st.sampled_from([None, "P", "q"])),
    st.builds(Import, st.sampled_from([*MODULES, ".config", "..a"]), st.sampled_from(MEMBERS), st.none()),
    st.builds(Import, st.sampled_from(MODULES), st.sampled_from(MEMBERS), st.sampled_from(["R", "s", "t"])),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(imports, max_size=8), min_size=8, max_size=8))
def test_imports_print_and_parse_back(cases):
    for case in cases:
        chosen = ImportSet(frozenset({item.local: item for item in case}.values()))
        assert ImportSet.parse(chosen.render()) == chosen


def test_imports_are_in_the_order_of_ruff(tmp_path):
    names_of = [Import(module, member) for module in [*MODULES, ".config", "..a"] for member in MEMBERS]
    modules = [Import("torch"), Import("torch.nn.functional", None, "F2"), Import("math"), Import("a10"), Import("a9")]
    aliased = [Import("torch", "nn", "n"), Import("torch", "Tensor", "T"), Import("math", "tau", "t")]
    for index in range(12):
        # One member of each module, and all members of one module
        one = [names_of[(index + 13 * step) % len(names_of)] for step in range(6)]
        group = names_of[index % 10 * 12 : index % 10 * 12 + 12]
        chosen = {item.local: item for item in [*modules[index % 3 :], *aliased[index % 2 :], *one, *group]}
        lines = ImportSet(frozenset(chosen.values())).render()
        (tmp_path / f"case_{index}.py").write_text(lines + "\n")
    command = [sys.executable, "-m", "ruff", "check", "--select=I", "--isolated", "--line-length=120", "--diff", "."]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (result.stdout, result.returncode) == ("", 0)


def test_import_sets_merge_and_wrap():
    long = ", ".join(f"create_a_mask_of_kind_{number}" for number in range(5))
    merged = ImportSet.parse("import torch\nfrom torch import nn\n").merge(
        ImportSet.parse(f"from torch import Tensor\nfrom masks import {long}\n")
    )
    assert merged.render().split("\n")[:3] == ["import torch", "from masks import (", "    create_a_mask_of_kind_0,"]
    assert merged.render().endswith("    create_a_mask_of_kind_4,\n)\nfrom torch import Tensor, nn")


def test_import_conflict_is_an_error_and_one_package_imported_twice_is_none():
    with pytest.raises(ImportConflictError, match=r"F is imported as a\.F and as torch\.nn\.functional"):
        ImportSet.parse("import torch.nn.functional as F\n").merge(ImportSet.parse("from a import F\n"))
    assert ImportSet.parse("import os\nimport os.path\n").render() == "import os\nimport os.path"


# Names


def plain_library_files() -> list[Path]:
    folder = Path(sysconfig.get_path("stdlib"))
    stems = ["bisect", "colorsys", "heapq", "keyword", "opcode", "quopri", "stat", "shlex", "textwrap", "tokenize"]
    return [folder / f"{stem}.py" for stem in stems]


def tokenized_names(text: str) -> list[str]:
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type != tokenize.COMMENT]
    found: dict[str, None] = {}
    for before, token, after in zip([tokens[0], *tokens], tokens, [*tokens[1:], tokens[-1]], strict=False):
        keyword_argument = after.string == "=" and after.start == token.end
        if token.type == tokenize.NAME and before.string != "." and not keyword_argument:
            found[token.string] = None
    return list(found)


@pytest.mark.parametrize("path", plain_library_files(), ids=lambda path: path.stem)
def test_names_are_those_of_the_tokenizer(path):
    text = re.sub(r"\bf(?=[\"'])", "", path.read_text(encoding="utf-8"))
    assert list(names_in(text)) == tokenized_names(text)


@pytest.mark.parametrize("path", plain_library_files()[:4], ids=lambda path: path.stem)
def test_renaming_every_name_and_back_changes_nothing(path):
    text = path.read_text(encoding="utf-8")
    used = [name for name in names_in(text) if not keyword.iskeyword(name)]
    there = {name: f"{name}_renamed_" for name in used}
    back = {new: old for old, new in there.items()}
    assert rename(text, there) != text
    assert rename(rename(text, there), back) == text
    assert len(ast.parse(rename(text, there)).body) == len(ast.parse(text).body)
