"""The Hugging Face backend: wiring printed from the IR, maths specialised from components."""
