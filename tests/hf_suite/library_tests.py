"""The model tests of transformers, which its source distribution carries, made importable as the package `tests`."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

DISTRIBUTED = '''"""Names that the distributed mixins import; the tests that use them are switched off."""


def run_distributed(*args, **kwargs):
    return lambda function: function


_get_distributed_backend = _get_distributed_device_type = _get_rank_device = run_distributed
_set_rank_device = _start_rank_processes = run_distributed
'''

CONFIGURATION = '''"""Values that any config must keep."""

config_common_kwargs = {
    "dtype": "float16",
    "output_hidden_states": True,
    "output_attentions": True,
    "return_dict": False,
    "id2label": {0: "no"},
    "label2id": {"no": "0"},
    "problem_type": "regression",
}
'''

STAND_INS = {
    "__init__.py": "",
    "distributed_testing_utils.py": DISTRIBUTED,
    "exporters/__init__.py": "",
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/__init__.py": "",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/__init__.py": "",
    "utils/test_configuration_utils.py": CONFIGURATION,
}
"""Modules that the mixins import and the source distribution leaves out."""


def prepare(folder: Path) -> str:
    """Unpacks the tests of the installed version into `folder`; returns why that cannot be done, or an empty text."""
    release = f"transformers=={version('transformers')}"
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, release]
    download = subprocess.run(command, capture_output=True, text=True)
    archives = list(folder.glob("transformers-*.tar.gz"))
    if download.returncode or not archives:
        return f"no source distribution of {release}: {download.stderr.strip()[-300:]}"
    with tarfile.open(archives[0]) as archive:
        members = [member for member in archive.getmembers() if "/tests/" in member.name and member.isfile()]
        archive.extractall(folder, members, filter="data")
    tests = next(folder.glob("transformers-*/tests"))
    tests.rename(folder / "tests")
    for name, text in STAND_INS.items():
        path = folder / "tests" / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(text)
    return ""
