"""The families under test."""

from __future__ import annotations

from tests.families.dense import GPT2, LLAMA, OLMO2, PHI, QWEN3
from tests.families.routed import DEEPSEEK_V3, MIXTRAL
from tests.families.windowed import COHERE2, GEMMA2, MISTRAL

FAMILIES = (GPT2, LLAMA, MISTRAL, QWEN3, GEMMA2, OLMO2, PHI, COHERE2, MIXTRAL, DEEPSEEK_V3)
