"""Extensions: run only where the caller allows it, recorded by digest, linked into files that stand alone."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from eulerc.api import build, lint
from eulerc.cli.main import app
from eulerc.ir.definition import by_axis, definitions
from eulerc.ir.numbers import tensor_plan
from eulerc.ir.stats import executed_flops
from tests.components.harness import component_config
from tests.docs.markdown import ROOT, fenced
from tests.variants import VARIANTS
from tests.variants.building import spec

TOY = Path(__file__).parent / "pooling"
POOLED = spec(
    "pooled",
    "  block:\n    mixer: {type: pooling, pooling: {gate: true}}\n    ffn: {type: gated_mlp}\n",
    embedding="  positional: none",
    rest="extensions: [./pooling]",
)
PLAIN = POOLED.replace("./pooling", "pooling")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, far from any pyproject.toml, with a spec and the extension that it names."""
    shutil.copytree(TOY, tmp_path / "pooling", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "spec.yaml").write_text(POOLED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def codes(*, allow: bool = False, source: str = "spec.yaml") -> list[str]:
    return [item.code for item in lint(source, allow_extensions=allow).diagnostics]


def edit(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_text()
    changed = change(text)
    assert changed != text
    path.write_text(changed)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, by its path."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


# permission


def test_what_nobody_allows_does_not_run(folder: Path) -> None:
    edit(folder / "pooling/definition.py", lambda text: f"{text}\nopen('ran', 'w').close()\n")
    assert codes() == ["E0775"]
    assert not (folder / "ran").exists()
    assert codes(allow=True) == []
    assert (folder / "ran").exists()


@pytest.mark.parametrize(
    ("pyproject", "trusted"),
    [
        ('[tool.eulerc]\nextensions = ["specs/pooling"]', True),
        ("[tool.eulerc]\nextensions = true", True),
        ("[tool.eulerc]\nextensions = false", False),
        ('[tool.eulerc]\nextensions = ["pooling", 3]', False),
        ('[tool.eulerc]\nextensions = "specs/pooling"', False),
        ("[tool]\neulerc = 1", False),
        ("[tool.eulerc", False),
        ("", False),
    ],
)
def test_the_callers_pyproject_may_allow_it(
    folder: Path, pyproject: str, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "specs" / "deep").mkdir(parents=True)
    for name in ("pooling", "spec.yaml"):
        shutil.move(folder / name, folder / "specs" / name)
    (folder / "pyproject.toml").write_text(pyproject)
    assert codes(source="specs/spec.yaml") == ([] if trusted else ["E0775"])
    monkeypatch.chdir(folder / "specs" / "deep")
    assert codes(source="../spec.yaml") == ([] if trusted else ["E0775"])


def test_a_pyproject_beside_the_spec_is_not_the_callers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pyproject.toml").write_text("[tool.eulerc]\nextensions = true")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "pyproject.toml").write_text("")
    monkeypatch.chdir(folder / "elsewhere")
    assert codes(source="../spec.yaml") == ["E0775"]


@pytest.mark.parametrize("command", [["lint"], ["stats"], ["dump-ir"], ["viz", "-o", "x.svg"], ["build", "-o", "x"]])
def test_every_command_that_reads_specs_takes_the_option(folder: Path, command: list[str]) -> None:
    arguments = [command[0], "spec.yaml", *command[1:]]
    refused = CliRunner().invoke(app, arguments)
    assert (refused.exit_code, "E0775" in refused.stderr) == (1, True)
    assert CliRunner().invoke(app, [*arguments, "--allow-extensions"]).exit_code == 0


def test_an_installed_package_is_trusted_and_named_by_its_entry_point(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = folder / "site"
    shutil.copytree(folder / "pooling", site / "mixers" / "pooling")
    for package in ("mixers", "mixers/pooling"):
        (site / package / "__init__.py").write_text("")
    (site / "mixers-1.0.dist-info").mkdir()
    (site / "mixers-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mixers\nVersion: 1.0\n")
    (site / "mixers-1.0.dist-info" / "entry_points.txt").write_text("[eulerc.extensions]\npooling = mixers.pooling\n")
    (folder / "spec.yaml").write_text(PLAIN)
    assert codes() == ["E0776"]
    monkeypatch.syspath_prepend(site)
    assert codes() == []
    build("spec.yaml", "built")
    manifest = json.loads((folder / "built/eulerc.json").read_text())
    assert {"pooling/definition.py", "pooling/component.py"} < manifest["sources"].keys()
    assert not (folder / "built/pooling").exists()


# purity


def test_the_manifest_has_the_digests_and_the_directory_builds_again(folder: Path) -> None:
    build("spec.yaml", "built", allow_extensions=True)
    manifest = json.loads((folder / "built/eulerc.json").read_text())
    for name in ("pooling/definition.py", "pooling/component.py"):
        digest = sha256((folder / name).read_bytes()).hexdigest()
        assert manifest["sources"][name] == manifest["files"][name] == digest
    build("built/spec.yaml", "again", allow_extensions=True)
    files = sorted(path.relative_to(folder / "built") for path in (folder / "built").rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(folder / "again") for path in (folder / "again").rglob("*") if path.is_file()
    )
    assert all((folder / "built" / file).read_bytes() == (folder / "again" / file).read_bytes() for file in files)


def test_a_change_of_the_component_changes_what_is_built(folder: Path) -> None:
    build("spec.yaml", "before", allow_extensions=True)
    edit(folder / "pooling/component.py", lambda text: text.replace("torch.sigmoid", "torch.tanh"))
    build("spec.yaml", "after", allow_extensions=True)
    modeling = (folder / "after/modeling_pooled.py").read_text()
    assert modeling == (folder / "before/modeling_pooled.py").read_text().replace("torch.sigmoid", "torch.tanh")


@pytest.mark.parametrize("stage", ["arch", "layers", "module"])
def test_a_textual_ir_carries_its_extensions(folder: Path, stage: str) -> None:
    run = CliRunner().invoke(app, ["dump-ir", "spec.yaml", "--stage", stage, "--allow-extensions"])
    (folder / "spec.eir").write_text(run.stdout)
    assert codes(source="spec.eir") == ["E0775"]
    build("spec.eir", "from_text", allow_extensions=True)
    build("spec.yaml", "from_spec", allow_extensions=True)
    for name in ("config.json", "model.safetensors", "pooling/component.py"):
        assert (folder / "from_text" / name).read_bytes() == (folder / "from_spec" / name).read_bytes(), name
    edit(folder / "pooling/component.py", lambda text: text.replace("torch.sigmoid", "torch.tanh"))
    assert codes(source="spec.eir", allow=True) == ["E0778"]


def test_the_compiler_forgets_types_that_a_spec_does_not_name(folder: Path) -> None:
    assert codes(allow=True) == []
    edit(folder / "spec.yaml", lambda text: text.replace("extensions: [./pooling]", ""))
    assert codes(allow=True) == ["E0205"]
    assert "mixer.pooling" not in definitions()
    assert "pooling" not in by_axis("mixer")


def test_two_extensions_of_one_name_are_not_compared(folder: Path) -> None:
    shutil.copytree(folder / "pooling", folder / "other" / "pooling")
    shutil.copy(folder / "spec.yaml", folder / "other" / "spec.yaml")
    command = ["diff", "spec.yaml", "other/spec.yaml", "--allow-extensions"]
    assert CliRunner().invoke(app, command).exit_code == 0
    edit(folder / "other/pooling/definition.py", lambda text: text.replace('"Heads."', '"How many."'))
    run = CliRunner().invoke(app, command)
    assert (run.exit_code, "rename one of the folders" in run.stderr) == (1, True)


# what is built


def test_the_generated_file_stands_alone(folder: Path) -> None:
    build("spec.yaml", "built", allow_extensions=True, tokenizer=False)
    code = (
        "import sys, torch; sys.modules['eulerc'] = None\n"
        "from transformers import AutoModelForCausalLM\n"
        "model = AutoModelForCausalLM.from_pretrained('built', trust_remote_code=True)\n"
        "ids = torch.arange(3, 12)[None]\n"
        "plain = model.generate(ids, max_new_tokens=8, do_sample=False, use_cache=False, pad_token_id=0)\n"
        "assert torch.equal(model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0), plain)\n"
        "print(type(model.model.layers[0].self_attn).__name__, model.config.pooling_heads)\n"
    )
    variables = {**os.environ, "HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=True)
    assert run.stdout.split() == ["PooledPoolingAttention", "4"]
    assert "pooling_heads (`int`, *optional*):\n        Heads." in (folder / "built/modeling_pooled.py").read_text()


BILINEAR = """from eulerc.ir.definition import ClassBinding, Cost, Definition, linear, register
from eulerc.ir.fields import Field, Integer


@register
class Bilinear(Definition):
    \"\"\"down(left(x) * right(x)).\"\"\"

    name, axis, yaml_type, module_name = "ffn.bilinear", "ffn", "bilinear", "mlp"
    width = Field(Integer(), "Width of the product.", role="size", config="bilinear_width")

    @classmethod
    def tensors(cls, op, hidden_size, std):
        width = op["width"]
        left, right = (linear(f"{side}_proj", hidden_size, width, False, std) for side in ("left", "right"))
        return (*left, *right, *linear("down_proj", width, hidden_size, False, std))

    @classmethod
    def cost(cls, op, hidden_size):
        return Cost(3 * hidden_size * op["width"])

    @classmethod
    def binding(cls, op):
        return ClassBinding("bilinear", "BilinearMLP")
"""
BILINEAR_COMPONENT = """from torch import nn


class BilinearMLP(nn.Module):
    def __init__(self, config, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.left_proj = nn.Linear(config.hidden_size, sizes.bilinear_width, bias=False)
        self.right_proj = nn.Linear(config.hidden_size, sizes.bilinear_width, bias=False)
        self.down_proj = nn.Linear(sizes.bilinear_width, config.hidden_size, bias=False)

    def forward(self, hidden_states):
        return self.down_proj(self.left_proj(hidden_states) * self.right_proj(hidden_states))
"""


def test_a_feed_forward_network_may_be_an_extension_too(folder: Path) -> None:
    (folder / "bilinear").mkdir()
    (folder / "bilinear/definition.py").write_text(BILINEAR)
    (folder / "bilinear/component.py").write_text(BILINEAR_COMPONENT)
    text = POOLED.replace("type: gated_mlp", 'type: bilinear, width: "${32 + 16 * layer.index}"')
    (folder / "spec.yaml").write_text(text.replace("[./pooling]", "[./pooling, ./bilinear]"))
    result = lint("spec.yaml", allow_extensions=True)
    assert result.module is not None, result.diagnostics
    build("spec.yaml", "built", allow_extensions=True, tokenizer=False)
    model = AutoModelForCausalLM.from_pretrained(folder / "built", trust_remote_code=True)
    planned = {plan.name: plan.shape for plan in tensor_plan(result.module)}
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == planned
    assert planned["model.layers.1.mlp.down_proj.weight"] == (64, 48)
    ids = torch.arange(3, 12)[None]
    with FlopCounterMode(display=False) as counter:
        model.set_attn_implementation("eager")
        model(ids, use_cache=False)
    assert counter.get_total_flops() == executed_flops(result.module, 9)


def test_a_component_reads_reserved_keys_from_the_config(folder: Path) -> None:
    with (folder / "spec.yaml").open("a") as file:
        file.write("\nexperimental.sharpness: 3.0\n")
    edit(
        folder / "pooling/component.py",
        lambda text: text.replace("sizes.pooling_sharpness", 'config.v1_extensions["experimental.sharpness"]'),
    )
    assert codes(allow=True) == ["W0202"]
    build("spec.yaml", "built", allow_extensions=True, tokenizer=False)
    model = AutoModelForCausalLM.from_pretrained(folder / "built", trust_remote_code=True)
    assert model.model.layers[1].self_attn.scaling == 3.0
    model.save_pretrained(folder / "saved")
    again = AutoModelForCausalLM.from_pretrained(folder / "saved", trust_remote_code=True)
    assert again.config.v1_extensions == {"experimental.sharpness": 3.0}


def imported(file: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location("toy_component", file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@torch.no_grad()
def test_the_toy_is_the_mean_that_it_says() -> None:
    config = component_config(pooling_heads=2, pooling_sharpness=1.5, pooling_gate=False, shared_module=False)
    config._attn_implementation = "eager"
    module = imported(TOY / "component.py").PoolingAttention(config, layer_idx=0)
    states = torch.randn(2, 5, config.hidden_size, generator=torch.Generator().manual_seed(0))
    mask = torch.full((5, 5), float("-inf")).triu(1)[None, None]
    found, _ = module(states, mask)
    scores, values = module.score_proj(states) * 1.5, module.v_proj(states).unflatten(-1, (2, -1))
    for position in range(5):
        shares = scores[:, : position + 1].softmax(dim=1)
        mean = (shares.unsqueeze(-1) * values[:, : position + 1]).sum(dim=1)
        torch.testing.assert_close(found[:, position], module.o_proj(mean.flatten(1)))


def test_the_page_shows_these_very_files() -> None:
    blocks = fenced((ROOT / "docs/language/extensions.md").read_text(encoding="utf-8"))
    shown = {block.option("file"): block.text for block in blocks if block.language == "python"}
    assert shown == {f"pooling/{path.name}": path.read_text() for path in TOY.glob("*.py")}
    assert "./tests/extensions/pooling" in VARIANTS["extension"]


# what goes wrong


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./polling", "there is no folder"),
        ("../pooling", "no folder below that of the spec"),
        ("/pooling", "no folder below that of the spec"),
        ("./spec.yaml", "there is no folder"),
        ("./empty", "has no definition.py"),
        ("./Pooling-2", "cannot be called"),
        ("unheard_of", "no installed package"),
    ],
)
def test_what_is_not_there_is_reported_once(folder: Path, name: str, words: str) -> None:
    (folder / "empty").mkdir()
    shutil.copytree(folder / "pooling", folder / "Pooling-2")
    edit(folder / "spec.yaml", lambda text: text.replace("./pooling", name))
    (found,) = lint("spec.yaml", allow_extensions=True).diagnostics
    assert found.code == "E0776"
    assert words in found.message


BROKEN = {
    "a typing mistake": ("definition", lambda text: text.replace("@register", "@register("), "SyntaxError"),
    "an error": (
        "definition",
        lambda text: f"{text}\n1 / 0\n",
        "division by zero (definition.py, line",
    ),
    "a missing module": ("definition", lambda text: f"{text}\nimport missing_module\n", "No module named"),
    "no definition": ("definition", lambda text: text.replace("@register", ""), "registers no definition"),
    "an axis": ("definition", lambda text: text.replace('"mixer", "pooling"', '"norm", "pooling"'), "on axis 'norm'"),
    "a type of eulerc's": (
        "definition",
        lambda text: text.replace('"mixer", "pooling"', '"mixer", "attention"'),
        "eulerc's own",
    ),
    "no module": (
        "definition",
        lambda text: text.replace('module_name = "self_attn"', ""),
        "needs yaml_type",
    ),
    "a component's mistake": ("component", lambda text: f"{text}\nprint(\n", "was never closed"),
    "a stray statement": ("component", lambda text: f"{text}\nprint('linked')\n", "cannot be linked"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_loaded_says_why(folder: Path, what: str) -> None:
    file, change, words = BROKEN[what]
    edit(folder / f"pooling/{file}.py", change)
    (found,) = lint("spec.yaml", allow_extensions=True).diagnostics
    assert found.code == "E0777"
    assert words in found.primary.text


MISFITS = {
    "an error in lower": ("cls.name, attributes", "cls.nothing, attributes", "no attribute 'nothing'"),
    "an error in tensors": ('*linear("v_proj"', '*linear(1 / 0, "v_proj"', "ZeroDivisionError: division by zero"),
    "no such class": ('"PoolingAttention"', '"Pooled"', "names no class of its component.py"),
    "no state": ("def carries", "def carried", "carries nothing"),
    "a number without a field": ('"pooling_heads": op["heads"]', '"pooled": op["heads"]', "config='pooled'"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_what_does_not_fit_together_says_why(folder: Path, what: str) -> None:
    old, new, words = MISFITS[what]
    edit(folder / "pooling/definition.py", lambda text: text.replace(old, new))
    found = lint("spec.yaml", allow_extensions=True).diagnostics
    assert {item.code for item in found} == {"E0779"}
    assert words in " ".join(item.primary.text for item in found)


def test_a_component_that_cannot_be_specialised_ends_a_build_in_words(folder: Path) -> None:
    edit(folder / "pooling/component.py", lambda text: text.replace("config.pooling_gate", "config.unheard_of"))
    run = CliRunner().invoke(app, ["build", "spec.yaml", "-o", "built", "--allow-extensions"])
    assert run.exit_code == 1
    assert "the component of an extension cannot be linked: pooling/component.py:" in run.stderr
    assert not (folder / "built").exists()


def test_an_extension_without_use_is_a_warning(folder: Path) -> None:
    (folder / "spec.yaml").write_text(spec("plain", rest="extensions: [./pooling]"))
    assert codes(allow=True) == ["W0780"]


def test_what_is_no_list_of_names_is_refused(folder: Path) -> None:
    edit(folder / "spec.yaml", lambda text: text.replace("[./pooling]", "./pooling"))
    assert codes(allow=True) == ["E0203"]
