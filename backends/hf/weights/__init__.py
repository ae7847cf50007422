"""Weights: a counter-based generator, streamed into safetensors files without torch."""
