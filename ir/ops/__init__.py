"""The ops: one file each, found by name."""
