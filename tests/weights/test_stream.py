import errno
import os
import subprocess
import sys
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from eulerc.backends.hf.weights import stream
from eulerc.backends.hf.weights.stream import write_weights
from eulerc.ir.tensors import Init, TensorPlan

NORMAL = Init("normal", Decimal("0.02"))
PLAN = [
    TensorPlan("model.embed_tokens.weight", (1000, 64), "bfloat16", NORMAL),
    TensorPlan("model.layers.0.mlp.up_proj.weight", (333, 64), "bfloat16", NORMAL),
    TensorPlan("model.layers.0.router.weight", (64, 7), "float32", NORMAL),
    TensorPlan("model.norm.weight", (64,), "bfloat16", Init("ones")),
]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def build(folder: Path, plan: list[TensorPlan] = PLAN, **options: int) -> dict[str, bytes]:
    folder.mkdir()
    write_weights(folder, plan, 7, **options)
    return contents(folder)


def as_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("chunk_bytes", [1 << 10, 3 << 10, 1 << 22])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bytes_do_not_depend_on_threads_or_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, threads: int
) -> None:
    expected = build(tmp_path / "default")
    monkeypatch.setattr(stream, "CHUNK_BYTES", chunk_bytes)
    assert build(tmp_path / "other", threads=threads) == expected


def test_adding_a_tensor_changes_no_other(tmp_path: Path) -> None:
    build(tmp_path / "before")
    extra = TensorPlan("model.layers.1.mlp.up_proj.weight", (50, 64), "bfloat16", NORMAL)
    build(tmp_path / "after", [extra, *PLAN])
    before, after = as_tensors(tmp_path / "before"), as_tensors(tmp_path / "after")
    assert after.keys() - before.keys() == {extra.name}
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_files_do_not_depend_on_the_order_of_the_plan(tmp_path: Path) -> None:
    shuffled = [PLAN[2], PLAN[0], PLAN[3], PLAN[1]]
    expected = build(tmp_path / "planned", max_shard_bytes=50_000)
    assert build(tmp_path / "shuffled", shuffled, max_shard_bytes=50_000) == expected


def test_sharding_changes_no_tensor(tmp_path: Path) -> None:
    build(tmp_path / "one")
    assert len(build(tmp_path / "many", max_shard_bytes=50_000)) == 3
    one, many = as_tensors(tmp_path / "one"), as_tensors(tmp_path / "many")
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)


@pytest.mark.parametrize("max_shard_bytes", [50_000, 10**9])
def test_digests_are_those_of_the_files(tmp_path: Path, max_shard_bytes: int) -> None:
    digests = write_weights(tmp_path, PLAN, 7, max_shard_bytes=max_shard_bytes)
    assert digests == {name: sha256(data).hexdigest() for name, data in contents(tmp_path).items()}


@pytest.mark.parametrize("max_shard_bytes", [20_000, 10**9])
def test_transformers_loads_it_and_saves_the_same_bytes(tmp_path: Path, max_shard_bytes: int) -> None:
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=99,
        tie_word_embeddings=True,
    )
    plan = [
        TensorPlan(name, tuple(tensor.shape), "float32", NORMAL if tensor.dim() > 1 else Init("ones"))
        for name, tensor in LlamaForCausalLM(config).state_dict().items()
        if name != "lm_head.weight"
    ]
    ours = build(tmp_path / "ours", plan, max_shard_bytes=max_shard_bytes)
    config.save_pretrained(tmp_path / "ours")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs", max_shard_size=max_shard_bytes)
    theirs = contents(tmp_path / "theirs")
    assert ours == {name: data for name, data in theirs.items() if name.startswith("model")}


def test_progress_rises_to_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK_BYTES", 1 << 12)
    calls: list[tuple[int, int]] = []
    write_weights(tmp_path, PLAN, 7, lambda done, total: calls.append((done, total)), max_shard_bytes=50_000)
    size = sum(tensor.numel * (4 if tensor.dtype == "float32" else 2) for tensor in PLAN)
    assert len(calls) > 40
    assert calls == sorted(calls)
    assert calls[-1] == (size, size)
    assert {total for _, total in calls} == {size}


def test_a_model_larger_than_the_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    vast = TensorPlan("w", (1 << 30, 1 << 30), "float32", NORMAL)
    with pytest.raises(OSError, match="are free") as caught:
        write_weights(tmp_path, [vast], 0)
    assert caught.value.errno == errno.ENOSPC
    assert contents(tmp_path) == {}


def test_an_error_in_a_drawing_thread_reaches_the_caller(tmp_path: Path) -> None:
    wide = TensorPlan("w", (8,), "float16", Init("normal", Decimal(60_000)))
    with pytest.raises(OverflowError, match="float16"):
        write_weights(tmp_path, [wide], 0)


MEMORY_SCRIPT = """
import sys
from decimal import Decimal
from pathlib import Path
from eulerc.backends.hf.weights.stream import write_weights
from eulerc.ir.tensors import Init, TensorPlan

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

plan = [TensorPlan("large", (1 << 28,), "bfloat16", Init("normal", Decimal("0.02")))]
plan += [TensorPlan(f"small.{n}", (1 << 22,), "float32", Init("normal", Decimal("0.02"))) for n in range(32)]
before = peak()
write_weights(Path(sys.argv[1]), plan, 0)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_peak_memory_is_a_few_buffers_and_not_the_model(tmp_path: Path) -> None:
    """1 GiB of weights, half of it in one tensor. `getrusage` would count the memory of the process that forked."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (tmp_path / "model.safetensors").stat().st_size > 1 << 30
    (tmp_path / "model.safetensors").unlink()
    assert int(result.stdout) < 64 << 20


def test_numpy_is_imported_by_this_package_alone() -> None:
    script = (
        "import sys; import eulerc.backends.hf.exchange, eulerc.backends.hf.weights.safetensors_file;"
        "print('numpy' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
