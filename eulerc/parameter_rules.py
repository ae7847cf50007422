"""What lint says of globs over parameters: each matches, and groups hold every parameter once."""

from __future__ import annotations

from collections.abc import Iterator

from eulerc.diagnostics.model import Diagnostics, Label
from eulerc.diagnostics.suggest import closest
from eulerc.ir.core import Module, Op
from eulerc.ir.gating import GATE
from eulerc.ir.numbers import tensor_plan
from eulerc.ir.parameter_names import covers
from eulerc.ir.tensors import TensorPlan

BLOCK = 32
"""Numbers that share a scale in MXFP4."""


def check_parameters(module: Module, diagnostics: Diagnostics) -> None:
    """Judges the optimizer's groups, and the scope of quantisation, by the parameters that the model has."""
    for op in module.all("hints"):
        if op.get("optimizer_groups") is not None:
            _check_groups(op, parameters(module), diagnostics)
        if op.get("router_lr_multiplier") is not None:
            _check_routers(op, module, diagnostics)
    if module.one("spec")["init"] == "mup" and any(op.name == "shape_change" for op in module.model.walk()):
        diagnostics.error(
            "E0763",
            "muP in a model whose stream changes its width",
            module.one("spec").where("init"),
            "it scales by one width",
            help="set init to normal_0.02, or take shape_change out",
        )
    for op in module.all("quantization"):
        _check_scope(op, parameters(module), diagnostics)


def _check_scope(quantization: Op, trained: list[TensorPlan], diagnostics: Diagnostics) -> None:
    """Every glob finds a matrix, whose rows can be parted into blocks where the dtype has some."""
    for index, glob in enumerate(quantization["scope"]):
        key = f"scope[{index}]"
        if not check_glob(glob, key, quantization, trained, diagnostics):
            continue
        found = [tensor for tensor in trained if covers(glob, tensor.name)]
        matrices = [tensor for tensor in found if tensor.is_matrix]
        odd = [tensor for tensor in matrices if tensor.shape[-1] % BLOCK]
        if not matrices:
            diagnostics.error(
                "E0770",
                f"{glob!r} matches no matrix",
                quantization.where(key),
                f"{found[0].name} stays as it is",
                help="only matrices are quantised: write a glob of a projection",
            )
        elif odd and quantization["dtype"] == "fp4":
            diagnostics.error(
                "E0771",
                f"rows of {odd[0].shape[-1]} numbers in fp4",
                quantization.where(key),
                f"{odd[0].name} cannot be parted into blocks of {BLOCK}",
                help=f"make its inputs a multiple of {BLOCK}, or take it out of the scope",
            )


def _check_routers(hints: Op, module: Module, diagnostics: Diagnostics) -> None:
    ops = [op for template in module.all("template") for op in template.ops]
    if not any("experts" in op.attributes or op.name == GATE for op in ops):
        diagnostics.warning(
            "W0203",
            "training_hints.router_lr_multiplier is not used",
            hints.where("router_lr_multiplier"),
            "the model has no routers",
            help="take router_lr_multiplier out",
        )


def parameters(module: Module) -> list[TensorPlan]:
    """The parameters that are trained, each once: a tied head is the embedding's table."""
    return [tensor for tensor in tensor_plan(module) if tensor.trained and not tensor.buffer and tensor.tied_to is None]


def _check_groups(hints: Op, trained: list[TensorPlan], diagnostics: Diagnostics) -> None:
    groups = {word: list(hints["optimizer_groups"].get(word) or ()) for word in ("muon", "adamw")}
    sound = True
    for word, globs in groups.items():
        for index, glob in enumerate(globs):
            sound &= check_glob(glob, f"optimizer_groups.{word}[{index}]", hints, trained, diagnostics)
    if not sound:
        return
    placed = {word: [tensor for tensor in trained if _covered(tensor, globs)] for word, globs in groups.items()}
    chosen = {tensor.name for tensor in placed["adamw"]}
    _report_twice([tensor for tensor in placed["muon"] if tensor.name in chosen], groups, hints, diagnostics)
    chosen |= {tensor.name for tensor in placed["muon"]}
    _report_missing([tensor for tensor in trained if tensor.name not in chosen], hints, diagnostics)
    _report_vectors([tensor for tensor in placed["muon"] if not takes_muon(tensor)], hints, diagnostics)


def takes_muon(tensor: TensorPlan) -> bool:
    """Whether Muon can train a tensor: a matrix of more than one row and column, or a stack of such."""
    return tensor.is_matrix and len(tensor.shape) < 4 and min(tensor.shape[-2:]) > 1


def _covered(tensor: TensorPlan, globs: list[str]) -> bool:
    return any(covers(glob, tensor.name) for glob in globs)


def check_glob(glob: str, key: str, op: Op, tensors: list[TensorPlan], diagnostics: Diagnostics) -> bool:
    """Whether a glob matches at least one parameter; if not, says so."""
    if any(covers(glob, tensor.name) for tensor in tensors):
        return True
    suggestion = closest(glob, list(dict.fromkeys(_suggestions(tensors))))
    diagnostics.error(
        "E0765",
        f"{glob!r} matches no parameter",
        op.where(key),
        "no name of a parameter, nor of a module around one",
        help=f"did you mean {suggestion}?" if suggestion else f"names are like {tensors[-1].name}",
    )
    return False


def _suggestions(tensors: list[TensorPlan]) -> Iterator[str]:
    """Globs that would match: a name's end behind `*.`."""
    for tensor in tensors:
        parts = tensor.name.split(".")
        yield from (f"*.{'.'.join(parts[start:])}" for start in range(1, len(parts)))
        yield from (f"*.{part}" for part in parts if not part.isdigit())


def _report_twice(tensors: list[TensorPlan], groups: dict[str, list[str]], hints: Op, diagnostics: Diagnostics) -> None:
    if tensors:
        name = tensors[0].name
        muon, adamw = (
            next(index for index, glob in enumerate(groups[word]) if covers(glob, name)) for word in ("muon", "adamw")
        )
        diagnostics.error(
            "E0766",
            f"{_counted(tensors)} in both groups",
            hints.where(f"optimizer_groups.adamw[{adamw}]"),
            f"matches {name} too",
            labels=(Label(hints.where(f"optimizer_groups.muon[{muon}]"), "Muon trains it already"),),
            help="make one of the two globs narrower",
        )


def _report_missing(tensors: list[TensorPlan], hints: Op, diagnostics: Diagnostics) -> None:
    if tensors:
        diagnostics.error(
            "E0766",
            f"{_counted(tensors)} in no group",
            hints.where("optimizer_groups"),
            f"nobody trains {tensors[0].name}",
            help=f"add a glob that matches it, {_suggested(tensors[0])} for instance",
        )


def _report_vectors(tensors: list[TensorPlan], hints: Op, diagnostics: Diagnostics) -> None:
    if tensors:
        diagnostics.error(
            "E0767",
            f"Muon on {tensors[0].name}",
            hints.where("optimizer_groups.muon"),
            "makes the singular values of a matrix equal, and this is none",
            help=f"move it to adamw, {_suggested(tensors[0])} for instance",
        )


def _suggested(tensor: TensorPlan) -> str:
    return f"'*.{'.'.join(tensor.name.split('.')[-2:])}'"


def _counted(tensors: list[TensorPlan]) -> str:
    return f"{len(tensors)} parameter{'s' * (len(tensors) > 1)}"
