"""eulerc: a compiler from YAML descriptions of language models to Hugging Face model directories."""

__version__ = "0.1.0"
