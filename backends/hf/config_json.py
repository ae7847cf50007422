"""`config.json` and `generation_config.json`."""

from __future__ import annotations

import json
from typing import Any

from eulerc.backends.hf.emit.config_class import config_values
from eulerc.backends.hf.emit.facts import Model

TASKS = {
    "AutoModel": "Model",
    "AutoModelForCausalLM": "ForCausalLM",
    "AutoModelForSequenceClassification": "ForSequenceClassification",
    "AutoModelForTokenClassification": "ForTokenClassification",
    "AutoModelForQuestionAnswering": "ForQuestionAnswering",
}


def config_json(model: Model, ids: dict[str, int | None], layout: str) -> bytes:
    """The config of the built model, with `auto_map`."""
    config_file = f"configuration_{model.stem}" if layout == "split" else f"modeling_{model.stem}"
    auto_map = {"AutoConfig": f"{config_file}.{model.prefix}Config"}
    auto_map |= {auto: f"modeling_{model.stem}.{model.prefix}{kind}" for auto, kind in TASKS.items()}
    values = config_values(model, ids)
    if "block_types" in values:
        values["block_types"] = model.blocks
    if "module_indices" in values:
        values["module_indices"] = model.module_indices
    if "integrator_steps" in values:
        values["integrator_steps"] = model.integrator_steps
    if "integrator_tolerances" in values:
        values["integrator_tolerances"] = model.integrator_tolerances
    if "merge_sizes" in values:
        values["merge_sizes"] = model.merge_sizes
    if "layer_types" in values:
        values["layer_types"] = model.kinds
    if "mtp_layer_types" in values:
        values["mtp_layer_types"] = model.all_kinds[-1:] * values["num_mtp_layers"]
    content: dict[str, Any] = {
        "architectures": [f"{model.prefix}ForCausalLM"],
        "auto_map": auto_map,
        "model_type": model.stem,
        **values,
        "dtype": model.spec["dtype"],
    }
    if model.differing:
        content["per_layer_config"] = per_layer(model)
    for op in model.module.all("extensions"):
        content["v1_extensions"] = op["keys"]
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def per_layer(model: Model) -> dict[str, dict[str, Any]]:
    """Overrides of every layer whose numbers are not those of the first."""
    fields = model.numbers["fields"]
    layers: dict[str, dict[str, Any]] = {}
    for name, values in model.numbers["per_layer"].items():
        for index, value in enumerate(values):
            if value != fields[name]:
                layers.setdefault(str(index), {})[name] = value
    return dict(sorted(layers.items(), key=lambda item: int(item[0])))


def generation_config_json(ids: dict[str, int | None], *, caches: bool) -> bytes:
    """Special tokens for `generate`, and whether there is a cache for it."""
    # Fields of its own would be lost in a generation config that is taken for a part of the config
    content: dict[str, Any] = {} if "transition_token_id" in ids else {"_from_model_config": True}
    content |= {name: value for name, value in ids.items() if value is not None}
    content |= {} if caches else {"use_cache": False}
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
