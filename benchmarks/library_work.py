"""transformers doing what a command of eulerc does, in a process of its own: check, print, count, config or save."""

import sys

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

SMOLLM2_135M = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    initializer_range=1 / 24,
    tie_word_embeddings=True,
    rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    dtype="bfloat16",
)


def main(work: str, directory: str = "") -> None:
    if work == "config":
        SMOLLM2_135M.save_pretrained(directory)
        return
    with torch.device("cpu" if work == "save" else "meta"):
        model = AutoModelForCausalLM.from_config(SMOLLM2_135M, dtype=torch.bfloat16)
    if work == "print":
        print(model)
    elif work == "count":
        print(model.num_parameters())
    elif work == "save":
        model.save_pretrained(directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
