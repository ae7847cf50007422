"""mLSTM."""

from tests.components.cases.building import FLAG, Case, recurrent_inputs, untaken

CASES = (
    Case(
        "mlstm",
        "MLSTM",
        recurrent_inputs,
        dict.fromkeys(("mlstm_bias", "caps_gates", "shared_module"), FLAG),
        slots={"HeadNorm": (("head_norm", "HeadNorm"), ("head_norm", "BiaslessHeadNorm"))},
        dropped=untaken,
        config=lambda facts: {
            "mlstm_qk_head_dim": 4,
            "mlstm_v_head_dim": 6,
            "mlstm_chunk_size": 4,
            "mlstm_eps": 1e-4,
            "mlstm_norm_eps": 1e-5,
            "mlstm_gate_softcap": 2.0,
        },
        differing={"num_attention_heads": 2, "mlstm_qk_head_dim": 5, "mlstm_chunk_size": 3},
    ),
)
WITHIN = ("HeadNorm", "BiaslessHeadNorm", "InputGate", "ForgetGate")
