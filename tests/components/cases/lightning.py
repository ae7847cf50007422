"""Lightning attention."""

from tests.components.cases.building import FLAG, RMS_NORMS, Case, recurrent_inputs, untaken

CASES = (
    Case(
        "lightning",
        "LightningAttention",
        recurrent_inputs,
        {
            "lightning_decay": ("by_layer", "by_head", "none"),
            "lightning_gate": FLAG,
            "shared_module": FLAG,
        },
        slots={"OutputNorm": RMS_NORMS[:2]},
        dropped=untaken,
        config=lambda facts: {"lightning_act": "silu", "lightning_chunk_size": 4, "lightning_norm_eps": 1e-5},
        differing={"num_attention_heads": 2, "head_dim": 6, "lightning_chunk_size": 3},
    ),
)
