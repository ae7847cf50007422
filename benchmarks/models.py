"""Generated models beside the library's classes: forward, training step and cached decoding, same weights."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

MODULES = tempfile.TemporaryDirectory(prefix="eulerc-bench-")
# Read when transformers is imported: the generated code must not land among the user's own modules
os.environ["HF_MODULES_CACHE"] = MODULES.name
os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
