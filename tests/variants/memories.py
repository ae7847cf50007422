"""Tiny specs of memories beside mixers of every kind."""

from tests.variants.building import block, spec
from tests.variants.core import DEEPSEEK_MOE
from tests.variants.recurrent import LATENT, MAMBA1, MAMBA2, RETNET

NEURAL = "type: neural_memory, params: {hidden: 16}, inner_lr: 0.05, chunk_size: 4"
LEARNS = "update_at_inference: true"


def with_memory(template: str, memory: str) -> str:
    """A template that has a memory too."""
    return f"{template}    memory: {{{memory}}}\n"


VARIANTS: dict[str, str] = {
    "neural_memory": spec(
        "titans",
        with_memory(block("window: 5, n_kv_heads: 2", name="near"), f"{NEURAL}, {LEARNS}")
        + with_memory(
            block(LATENT, DEEPSEEK_MOE, "position: sandwich", name="latent"),
            f"{NEURAL}, {LEARNS}, join: add, persistence: persistent",
        ),
        "  - {pattern: [near, latent]}",
    ),
    "neural_memory_beside_states": spec(
        "titans_of_states",
        with_memory(
            block(f"{MAMBA2}}}", residual="type: parallel", name="recurrent"),
            f"{NEURAL}, {LEARNS}, persistence: per_query",
        )
        + with_memory(block("type: short_conv", ffn="type: none", name="convolved"), f"{NEURAL}, {LEARNS}, join: add")
        + with_memory(
            block(
                f"type: branched, branched: {{branches: {{near: {{type: attention, attention: {{window: 5}}}}, "
                f"far: {{{MAMBA1}}}}}}}}}",
                norm="type: layernorm",
                name="both",
            ),
            f"{NEURAL}, {LEARNS}",
        )
        + block("", name="plain"),
        "  - {pattern: [recurrent, both, convolved, plain]}",
        embedding="  positional: alibi",
    ),
    "neural_memory_without_keys": spec(
        "retaining",
        with_memory(block(f"{RETNET}}}"), f"{NEURAL}, {LEARNS}"),
        "  - {template: block}\n  - {integrator: {type: ode_euler, steps: 2, body: block}}",
    ),
    "memories_that_learn_in_training": spec(
        "frozen_memories",
        with_memory(block("", name="plain"), NEURAL)
        + with_memory(block(f"{MAMBA2}}}", name="recurrent"), f"{NEURAL}, join: add"),
        "  - {pattern: [plain, recurrent]}\n  - {template: plain}",
    ),
}
"""Specs by name."""
