"""Builds that are killed, and builds that the system refuses to go on with, in processes of their own."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eulerc.backends.hf.exchange import MANIFEST, heal

FILES = 8

BUILD = f"""FILES = {FILES}
import os, signal, sys
from itertools import count
from pathlib import Path
from eulerc.backends.hf import exchange

def build(directory, text):
    with exchange.staged(directory, force=False) as folder:
        for number in range({FILES}):
            (folder / f"file{{number}}").write_text(text)
        (folder / exchange.MANIFEST).write_text(text)

target, mechanism = Path(sys.argv[1]), sys.argv[2]
if mechanism == "two renames":
    exchange._swap = lambda first, second: False
"""

BUILD_FOR_EVER = """
print("ready", flush=True)
for number in count():
    build(target, f"{os.getpid()}.{number}")
"""

# Every call that touches the file system raises an audit event, so that dying at the n-th for every n passes through
# every state which another process can see.
BUILD_AND_DIE_AT_EVERY_STEP = """
def child(step):
    left = step
    def hook(event, arguments):
        nonlocal left
        left -= 1
        if left == -1:  # The kill is an event too.
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    build(target, "new")
    os._exit(0)

def state():
    if not target.exists():
        return "missing"
    names = sorted(os.listdir(target))
    texts = {(target / name).read_text() for name in names}
    complete = names == ["eulerc.json"] + [f"file{number}" for number in range(FILES)] and len(texts) == 1
    return texts.pop() if complete else "torn"

def die(step):
    process = os.fork()
    if process == 0:
        child(step)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0

killed, step = True, 0
while killed:
    if sys.argv[3] == "replace":
        build(target, "old")
    elif target.exists():
        exchange.shutil.rmtree(target)
    killed = die(step)
    seen = state()
    exchange.heal(target)
    print(step, seen, state(), *os.listdir(target.parent))
    step += 1
"""


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize("start", ["replace", "create"])
@pytest.mark.parametrize("mechanism", ["swap", "two renames"])
def test_dying_at_any_step_leaves_the_old_or_the_new_directory(
    tmp_path: Path, environment: dict[str, str], mechanism: str, start: str
) -> None:
    command = [sys.executable, "-c", BUILD + BUILD_AND_DIE_AT_EVERY_STEP, str(tmp_path / "kestrel"), mechanism, start]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    steps = [line.split() for line in result.stdout.splitlines()]
    old = "old" if start == "replace" else "missing"
    seen = [step[1] for step in steps]
    healed = [step[2] for step in steps]
    assert len(steps) > 30
    assert set(healed) == {old, "new"} and healed == sorted(healed, key=[old, "new"].index)
    assert set(seen) <= ({old, "new"} if mechanism == "swap" or start == "create" else {old, "new", "missing"})
    for _, _, state, *siblings in steps:
        assert siblings == ([] if state == "missing" else ["kestrel"])


@pytest.mark.parametrize("mechanism", ["swap", "two renames"])
def test_kill_9_at_random_moments_leaves_a_complete_directory(
    tmp_path: Path, environment: dict[str, str], mechanism: str
) -> None:
    target = tmp_path / "kestrel"
    chance = random.Random(0)
    command = [sys.executable, "-c", BUILD + BUILD_FOR_EVER, str(target), mechanism]
    for _ in range(15):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            time.sleep(0.01 + chance.random() / 20)
            process.send_signal(signal.SIGKILL)
        if mechanism == "two renames":
            heal(target)
        files = {path.name: path.read_text() for path in target.iterdir()}
        assert files.keys() == {MANIFEST, *(f"file{number}" for number in range(FILES))}
        assert len(set(files.values())) == 1
    heal(target)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("mechanism", ["swap", "two renames"])
def test_a_reader_never_sees_a_mixture_while_processes_build_at_once(
    tmp_path: Path, environment: dict[str, str], mechanism: str
) -> None:
    target = tmp_path / "kestrel"
    command = [sys.executable, "-c", BUILD + BUILD_FOR_EVER, str(target), mechanism]
    builders = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for builder in builders:
            assert builder.stdout is not None and builder.stdout.readline() == b"ready\n"
        end = time.monotonic() + 0.7
        seen = set()
        while time.monotonic() < end:
            seen.add(text_of_one_opened_directory(target))
        assert [builder.poll() for builder in builders] == [None, None]
    finally:
        for builder in builders:
            builder.kill()
            builder.communicate()
    assert len(seen - {None}) > 5


def text_of_one_opened_directory(target: Path) -> str | None:
    """The text that all files hold, read through one descriptor; None where it was replaced meanwhile."""
    try:
        descriptor = os.open(target, os.O_RDONLY)
    except FileNotFoundError:
        return None
    texts = set()
    try:
        for number in range(FILES):
            file = os.open(f"file{number}", os.O_RDONLY, dir_fd=descriptor)
            texts.add(os.read(file, 100).decode())
            os.close(file)
    except FileNotFoundError:
        return None
    finally:
        os.close(descriptor)
    (text,) = texts
    return text


WEIGHTS = """
import sys
from decimal import Decimal
from pathlib import Path
from eulerc.backends.hf.exchange import OutputError, staged
from eulerc.backends.hf.weights.stream import write_weights
from eulerc.ir.tensors import Init, TensorPlan

plan = [TensorPlan("w", (1 << 22,), "bfloat16", Init("normal", Decimal(1)))]
try:
    with staged(Path(sys.argv[1]), force=False) as folder:
        write_weights(folder, plan, 0)
except OutputError as error:
    print(error.code, error.message, error.help, sep="|")
"""


def test_a_write_that_fails_half_way_leaves_the_old_directory(tmp_path: Path, environment: dict[str, str]) -> None:
    """A limit on file sizes makes the system refuse a write in the middle of the weights, as a full disk does."""
    target = tmp_path / "kestrel"
    target.mkdir()
    (target / MANIFEST).write_text("old")
    result = subprocess.run(
        [sys.executable, "-c", WEIGHTS, str(target)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, 5 << 20)),
    )
    code, message, help = result.stdout.strip().split("|")
    assert (code, message) == ("E0604", f'cannot write "{target}": File too large')
    assert help == "raise the limit on file sizes (ulimit -f)"
    assert list(tmp_path.iterdir()) == [target]
    assert [path.name for path in target.iterdir()] == [MANIFEST]
