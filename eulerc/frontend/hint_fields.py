"""The keys of `training_hints`."""

from __future__ import annotations

from eulerc.ir.fields import Block, Choice, Field, Flag, Integer, ListOf, Number, Text

POSITIVE = Number(0, exclusive=True)
COEFFICIENTS = ListOf(item=Number(), minimum=3, maximum=3)

GROUPS: dict[str, Field] = {
    "muon": Field(ListOf(item=Text()), "Parameters that Muon trains.", []),
    "adamw": Field(ListOf(item=Text()), "Parameters that AdamW trains.", []),
}

MUON: dict[str, Field] = {
    "momentum": Field(Number(0, below=1), "Decay of the momentum.", 0.95),
    "ns_iters": Field(Integer(1, 99), "Newton-Schulz iterations.", 5),
    "ns_coefs": Field(COEFFICIENTS, "Their coefficients: a X + b XX'X + c (XX')^2 X.", [3.4445, -4.775, 2.0315]),
    "stabilize_iters": Field(Integer(0, 99), "Further iterations, which bring singular values closer to 1.", 0),
    "stabilize_coefs": Field(COEFFICIENTS, "Their coefficients.", [2.0, -1.5, 0.5]),
}

HINTS: dict[str, Field] = {
    "init": Field(
        Text(),
        "How weights start: `normal_STD`, `depth_scaled_STD`, `mup_STD` (normal with that standard deviation, as it is "
        "or changed by depth or width) or `small` (SmallInit).",
        "normal_0.02",
    ),
    "mup_base_width": Field(
        Integer(maximum=2**24), "muP: the d_model at which the standard deviation and learning rate were chosen.", None
    ),
    "dropout": Field(Number(0, 1), "Dropout on the embedding and on every sublayer's output, in training.", 0.0),
    "checkpointing": Field(Flag(), "Train with gradient checkpointing.", False),
    "seed": Field(Integer(0, 2**63 - 1), "Seed of the random weights.", 1234),
    "router_aux_loss_coef": Field(Number(0), "Weight of the load-balancing loss where a template sets none.", 0.01),
    "lr_peak": Field(POSITIVE, "Peak learning rate.", None),
    "lr_floor_ratio": Field(Number(0, 1), "Final learning rate as a share of the peak.", None),
    "betas": Field(ListOf(item=Number(0, below=1), minimum=2, maximum=2), "Adam's two decay rates.", None),
    "weight_decay": Field(Number(0), "Decoupled weight decay, of matrices.", None),
    "grad_clip": Field(Number(0), "Norm that gradients are clipped to; 0 for none.", None),
    "warmup_steps_ratio": Field(Number(0, 1), "Share of the steps that warm up.", None),
    "router_lr_multiplier": Field(Number(0), "Factor on the learning rate of routers.", None),
    "optimizer": Field(
        Choice(
            meanings={
                "adamw": "AdamW (Loshchilov & Hutter 2019)",
                "muon": "Muon (Jordan et al. 2024) for the matrices of layers, AdamW for all else",
                "hybrid": "both, as `optimizer_groups` says",
            }
        ),
        "Optimizer.",
        None,
    ),
    "optimizer_groups": Field(
        Block(fields=GROUPS), "Hybrid: which parameters each optimizer trains, as globs of their names.", None
    ),
    "muon": Field(Block(fields=MUON), "Numbers of Muon.", None),
}
