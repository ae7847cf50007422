"""The functions of `training.py` that let a model train as if its weights were quantised."""

from __future__ import annotations

from eulerc.backends.hf.training_groups import COVERED, ParameterGroups, listed
from eulerc.ir.core import Op

IMPORTS = {
    "int8": "from torchao.quantization.qat import IntxFakeQuantizeConfig",
    "fp8": "from torchao.quantization import PerRow\nfrom torchao.quantization.qat import Float8FakeQuantizeConfig",
    "fp4": "from torchao.prototype.mx_formats.mx_tensor import MXTensor",
}
QUANTIZER = "from torchao.quantization.qat.fake_quantizer import FakeQuantizerBase"

ROUNDED = {
    "int8": """
    config = IntxFakeQuantizeConfig(torch.int8, "per_channel", is_symmetric=True)
    rounded = FakeQuantizerBase.from_config(config)(weight.flatten(0, -2)).view_as(weight)
""",
    "fp8": """
    config = Float8FakeQuantizeConfig(dtype=torch.float8_e4m3fn, granularity=PerRow())
    rounded = FakeQuantizerBase.from_config(config)(WEIGHT.flatten(0, -2)).view_as(weight)
""",
    "fp4": """
    rounded = MXTensor.to_mx(weight, torch.float4_e2m1fn_x2, block_size=32).dequantize()
""",
}

WHAT = {
    "int8": "int8, one scale a row",
    "fp8": "8-bit floats (E4M3), one scale a row",
    "fp4": "4-bit floats (E2M1), one power of two for 32 neighbours of a row",
}

AFTER = {
    None: "",
    "fp8": ROUNDED["fp8"].replace("WEIGHT", "rounded"),
    "bf16": "    rounded = rounded.to(torch.bfloat16).to(weight.dtype)\n",
    "fp32": "",
}

FURTHER = {
    None: "",
    "fp8": "\n\n    Then it is rounded to 8-bit floats (E4M3), one scale a row.\n    ",
    "bf16": "\n\n    Then it is rounded to bfloat16.\n    ",
    "fp32": "",
}

TEXT = '''
QUANTIZED = {scope}


def quantized(weight: torch.Tensor) -> torch.Tensor:
    """The weight as it comes back from {what}.{further}"""
    try:
{imports}
    except ImportError as error:
        raise ImportError("training as if quantised to {dtype} needs torchao: pip install torchao") from error
{rounded}    return rounded


def prepare_quantization(model: nn.Module) -> list[RemovableHandle]:
    """From now on the forward pass sees the matrices of QUANTIZED rounded; gradients pass as if they were not.

    Call it before training. Parameters, their names and checkpoints stay as they are: the optimizer moves the exact
    weights. Removing the handles that it returns undoes it.
    """
    handles = []
    for path, module in model.named_modules():
        names = []
        for name, weight in module.named_parameters(recurse=False):
            if {test}:
                names.append(name)
        if names:
            handles.append(module.register_forward_pre_hook(partial(put_quantized, names)))
            handles.append(module.register_forward_hook(partial(take_quantized, names), always_call=True))
    return handles


def put_quantized(names: list[str], module: nn.Module, inputs: tuple) -> None:
    """Lets plain attributes stand before the parameters of the same names."""
    for name in names:
        weight = module.get_parameter(name)
        rounded = quantized(weight.detach())
        module.__dict__[name] = weight + (rounded - weight.detach())


def take_quantized(names: list[str], module: nn.Module, inputs: tuple, output: object) -> None:
    """Takes them away."""
    for name in names:
        module.__dict__.pop(name, None)
'''


def quantization_text(op: Op, groups: ParameterGroups) -> str:
    """The functions, and `covered` where the groups have no need of it."""
    dtype, after = op["dtype"], op["dequant_to"]
    imports = [IMPORTS[dtype], *([IMPORTS["fp8"]] if after == "fp8" else [])]
    imports += [QUANTIZER] if dtype != "fp4" or after == "fp8" else []
    test = 'covered(f"{path}.{name}", QUANTIZED) and weight.dim() > 1'
    if groups.vectors:
        test += ' and not covered(f"{path}.{name}", VECTORS)'
    lines = sorted(set("\n".join(imports).split("\n")))
    text = TEXT.format(
        scope=listed(tuple(op["scope"])),
        what=WHAT[dtype],
        further=FURTHER[after],
        imports="\n".join(f"        {line}" for line in lines),
        dtype=dtype,
        rounded=(ROUNDED[dtype].replace("WEIGHT", "weight") + AFTER[after]).lstrip("\n").replace("\n\n", "\n"),
        test=test,
    )
    return text if groups.needs_globs else f"{COVERED}\n{text}"
