"""Edits that follow from the model as a whole, after a component has been specialised by itself."""

from __future__ import annotations

import re
from typing import Any

from eulerc.backends.hf.emit.facts import Model
from eulerc.ir.attention_options import NESTED_NORMS
from eulerc.ir.numbers import eps_field

BY_LAYER = r"""self.layer_type = config.layer_types[layer_idx]
        self.sliding_window = \1.sliding_window if self.layer_type == "sliding_attention" else None"""


def adjusted(model: Model, item: Any) -> str:
    """The text of a linked definition, made to fit the model."""
    text: str = item.text
    for op in model.module.all("class"):
        if str(op.symbol) == item.name and op["facts"].get("sliding_window") == "by_layer":
            by_layer = BY_LAYER
            if "hybrid_sliding" in model.kinds:
                by_layer = by_layer.replace('self.layer_type == "sliding_attention"', '"sliding" in self.layer_type')
            text = re.sub(r"self\.sliding_window = (config|sizes)\.sliding_window(?=\n)", by_layer, text)
    for key, own in NESTED_NORMS.items():
        if own not in model.numbers["fields"]:
            field = norm_field(model, item.name, key)
            text = re.sub(
                rf"(config|sizes)\.{own}", f"{'sizes' if field in model.differing else 'config'}.{field}", text
            )
    if model.changes_width and item.name not in model.outer_classes:
        text = with_own_width(text)
    text = re.sub(r"\n +(softcap|sliding_window|s_aux)=None,", "", text)
    if text.count("self.config") == 1 and "dynamic_rope_update" not in text:
        text = text.replace("        self.config = config\n", "")
    if "layer_idx: int" not in text and "class " in text:
        text = text.replace("(config, layer_idx)", "(config)").replace(
            "config,\n                layer_idx,\n", "config,\n"
        )
    return text


SIZES = "sizes = config.per_layer_config[layer_idx]"


def with_own_width(text: str) -> str:
    """A class of a layer, the stream being as wide as that layer reads it."""
    if "config.hidden_size" not in text:
        return text
    text = text.replace("config.hidden_size", "sizes.stream_size")
    if SIZES in text:
        return text
    if "super().__init__()\n" not in text:
        # The base class is told the width
        return text.replace("super().__init__(", f"{SIZES}\n        super().__init__(", 1)
    return text.replace("super().__init__()\n", f"super().__init__()\n        {SIZES}\n", 1)


def norm_field(model: Model, name: str, key: str) -> str:
    """The field of the norms' eps where the norm `key` inside attention shares it."""
    for template in model.templates.values():
        for op in template.ops:
            if str(op.get("class")) == name and op.get(key) is not None:
                return str(eps_field(op[key]["norm"]))
    return "rms_norm_eps"
