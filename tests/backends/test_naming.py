"""No generated model has the name of a class or model type that the library would load in its stead."""

from __future__ import annotations

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from eulerc.ir.naming import class_prefix, stem


@pytest.mark.parametrize("known", [*CONFIG_MAPPING_NAMES, "GPT-2", "Llama", "Gemma 2", "DeepSeek-V3"])
def test_a_model_named_like_a_model_type_gets_a_name_of_its_own(known: str) -> None:
    assert stem(known) not in CONFIG_MAPPING_NAMES
    assert stem(known).endswith("_custom")
    assert f"{class_prefix(known)}ForCausalLM" not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()


@pytest.mark.parametrize("name", ["gpt2-large", "llama-3.2-1b", "kestrel"])
def test_other_names_stay(name: str) -> None:
    assert stem(name) == name.replace("-", "_").replace(".", "_")
