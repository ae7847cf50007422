"""Prints what is per model: config class, layer classes, the model's frame and head."""
