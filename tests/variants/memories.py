"""Tiny specs of memories beside mixers of every kind."""

from tests.variants.building import block, spec
from tests.variants.core import DEEPSEEK_MOE
from tests.variants.recurrent import LATENT, MAMBA1, MAMBA2, RETNET

NEURAL = "type: neural_memory, params: {hidden: 16}, inner_lr: 0.05, chunk_size: 4"
ASSOCIATIVE = "type: associative, params: {hidden: 12}, chunk_size: 8"
RETRIEVAL = "type: retrieval, params: {hidden: 12, slots: 8, top_k: 3}"
WIDE = "wide: {type: attention}"
BRANCHES = f"near: {{type: attention, attention: {{window: 5}}}}, far: {{{MAMBA1}}}}}, {WIDE}"
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
                f"type: branched, branched: {{branches: {{{BRANCHES}}}}}",
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
    "other_memories": spec(
        "fast_weights_and_pairs",
        with_memory(block("window: 5, n_kv_heads: 2", name="near"), f"{ASSOCIATIVE}, {LEARNS}, persistence: persistent")
        + with_memory(
            block(LATENT, DEEPSEEK_MOE, "position: sandwich", name="latent"), f"{RETRIEVAL}, {LEARNS}, join: add"
        )
        + with_memory(
            block(f"{MAMBA2}}}", residual="type: parallel", name="recurrent"),
            f"{RETRIEVAL}, {LEARNS}, persistence: persistent",
        ),
        "  - {pattern: [near, latent, recurrent]}",
    ),
    "other_memories_without_keys": spec(
        "retaining_pairs",
        with_memory(block(f"{RETNET}}}", name="paired"), f"{RETRIEVAL}, {LEARNS}, persistence: per_query")
        + with_memory(block(f"{MAMBA1}}}", ffn="type: none", name="selective"), f"{ASSOCIATIVE}, {LEARNS}, join: add"),
        "  - {pattern: [selective, paired]}\n  - {integrator: {type: ode_euler, steps: 2, body: selective}}",
    ),
    "memories_that_learn_in_training": spec(
        "frozen_memories",
        with_memory(block("", name="plain"), NEURAL)
        + with_memory(block(f"{MAMBA2}}}", name="recurrent"), f"{ASSOCIATIVE}, join: add")
        + with_memory(block("window: 6, window_mode: chunked", name="chunked"), RETRIEVAL),
        "  - {pattern: [plain, recurrent, chunked]}",
        embedding="  positional: alibi",
    ),
}
"""Specs by name."""
