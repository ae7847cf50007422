"""A sample component in plain Python, which reads facts in every way that a component may."""

import math
from types import SimpleNamespace

SCALE = 0.5


def rotate(value: float, angle: float) -> float:
    """Turns a number by an angle."""
    return value * math.cos(angle) + SCALE


class Projection:
    """Multiplies by a width, and adds one if it has a bias."""

    def __init__(self, width: int, bias: bool = False) -> None:
        self.width = width
        self.bias = bias

    def __call__(self, value: float) -> float:
        return value * self.width + self.bias


class Mixer:
    """Mixes numbers as attention mixes vectors. Mixer is its own name."""

    def __init__(self, config: SimpleNamespace, layer_idx: int) -> None:
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.training = layer_idx == 1
        self.heads = sizes.num_heads
        self.query = Projection(
            sizes.num_heads,
            bias=config.bias,
        )
        # A window forgets
        if sizes.window is not None:
            self.window = sizes.window

        # The norms
        if config.norm == "head":
            # One weight for each head
            self.norm = sizes.num_heads + 1
        # One weight for the whole row
        elif config.norm == "full":
            self.norm = sizes.num_heads * sizes.head_width
            # whose width is the product

        self.mode = config.norm
        self.gate = (
            Projection(
                config.width,
                bias=config.bias,
            )
            if config.gate and config.norm is not None
            else None
        )

    def forward(
        self,
        value: float,
        angle: float,
        offset: float = 0.0,
    ) -> dict[str, float | str | None]:
        config = self.config
        result = {"value": self.query(value), "mode": self.mode}
        if not config.rope:
            return self.finish(result)
        angle = angle * 2 if config.gate else angle + 1
        result["rotated"] = rotate(value, angle)
        return self.finish(result)

    def finish(self, result: dict[str, float | str | None]) -> dict[str, float | str | None]:
        notes = """
        kept as they are
            and where they are
        """
        if self.config.norm in ("head", "full") and (self.training or self.config.gate):
            text = """
            not moved
        """
            result["norm"] = self.norm
            result["text"] = text
        elif self.training and self.config.window is not None:
            result["window"] = self.window
        elif self.config.bias:
            result["biased"] = 1
        else:
            result["plain"] = 1
        for name in ("a", "b"):
            if self.config.window is None:
                continue
            result[name] = self.window + len(name) if self.training else self.window
        for name in ("c", "d"):
            if self.config.gate and self.config.norm is not None:
                result[name] = self.gate(1.0)
        result["notes"] = notes
        return result
