"""Training hints: `training_hints.json` with TrainingArguments' names, and a `training.py` that reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from eulerc.backends.hf.emit.facts import Model
from eulerc.backends.hf.emit.file import COMPONENTS, pruned
from eulerc.backends.hf.imports import ImportSet
from eulerc.backends.hf.link import Request, link
from eulerc.backends.hf.quantization import quantization_text
from eulerc.backends.hf.training_groups import ParameterGroups
from eulerc.ir.core import Module

IMPORTS = ImportSet.parse(
    """
import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback
"""
)

DOC = '"""Training hints of {name}: arguments for transformers\' Trainer, and an optimizer with its groups."""'

ARGUMENTS = '''
def training_arguments() -> dict:
    """Keyword arguments for `transformers.TrainingArguments`."""
    return json.loads((Path(__file__).parent / "training_hints.json").read_text(encoding="utf-8"))
'''

BIAS_UPDATE = '''
class RouterBiasUpdate(TrainerCallback):
    """Balances experts by their routers' biases (Wang et al. 2024, algorithm 1), after every optimizer step.

    A bias moves by `update_rate` against the sign of the expert's load minus the mean load, unless the load is within
    `target_imbalance` (a share of the mean) of it. Pass an instance to `Trainer(callbacks=[...])`.
    """

    def __init__(self, update_rate: float = {update_rate}, target_imbalance: float = {target_imbalance}) -> None:
        self.update_rate = update_rate
        self.target_imbalance = target_imbalance
        self.loads = {{}}

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        for module in model.modules():
            if hasattr(module, "e_score_correction_bias"):
                module.register_forward_hook(self.count)

    def count(self, router, inputs, outputs):
        if router.training:
            experts = router.e_score_correction_bias.numel()
            load = torch.bincount(outputs[2].flatten(), minlength=experts).float()
            self.loads[router] = self.loads.get(router, 0) + load

    @torch.no_grad()
    def on_optimizer_step(self, args, state, control, **kwargs):
        for router, load in self.loads.items():
            deviation = load - load.mean()
            deviation[deviation.abs() <= self.target_imbalance * load.mean()] = 0
            router.e_score_correction_bias -= self.update_rate * deviation.sign()
        self.loads.clear()
'''


def hints_of(module: Module) -> dict[str, Any]:
    """The hints that were written, without those that other ops hold."""
    return {name: value for op in module.all("hints") for name, value in op.attributes.items()}


def training_arguments(hints: dict[str, Any]) -> dict[str, Any]:
    """The hints that were written, by TrainingArguments' names."""
    arguments: dict[str, Any] = {}
    if "lr_peak" in hints:
        arguments["learning_rate"] = hints["lr_peak"]
    if "lr_floor_ratio" in hints:
        arguments["lr_scheduler_type"] = "cosine_with_min_lr"
        arguments["lr_scheduler_kwargs"] = {"min_lr_rate": hints["lr_floor_ratio"]}
    if "betas" in hints:
        arguments["adam_beta1"], arguments["adam_beta2"] = hints["betas"][:2]
    if hints.get("optimizer") == "adamw":
        arguments["optim"] = "adamw_torch"
    renamed = {
        "weight_decay": "weight_decay",
        "grad_clip": "max_grad_norm",
        "warmup_steps_ratio": "warmup_steps",
        "checkpointing": "gradient_checkpointing",
    }
    return arguments | {ours: hints[key] for key, ours in renamed.items() if key in hints}


def training_files(module: Module, model: Model) -> dict[str, str]:
    """The two files, where the spec has hints or routers to balance; none otherwise."""
    hints = hints_of(module)
    arguments = training_arguments(hints)
    groups, quantizations = ParameterGroups.of(model, hints), module.all("quantization")
    corrections = [op["bias_correction"] for op in model.moe if op["bias_correction"] is not None]
    if not (arguments or groups.are_special or corrections or quantizations):
        return {}
    pieces, imports = [ARGUMENTS], IMPORTS
    if groups.has_muon:
        linked = link([Request(component="muon", names=("Muon",))], COMPONENTS)
        imports = imports.merge(linked.imports)
        pieces += [item.text for item in linked.definitions]
    pieces.append(groups.text())
    pieces += [quantization_text(op, groups) for op in quantizations]
    if corrections:
        pieces.append(BIAS_UPDATE.format(**corrections[0]))
    return {
        "training_hints.json": json.dumps(arguments, indent=2, sort_keys=True) + "\n",
        "training.py": _file(model, imports, pieces),
    }


def _file(model: Model, imports: ImportSet, pieces: Iterable[str]) -> str:
    body = "\n\n\n".join(piece.strip("\n") for piece in pieces) + "\n"
    return f"{DOC.format(name=model.prefix)}\n\n{pruned(imports, body).render().rstrip()}\n\n\n{body}"
