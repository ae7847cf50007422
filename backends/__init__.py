"""Backends: what turns the module stage of the IR into files of another system."""

if __name__ != "eulerc.backends":
    raise ImportError("import this package as eulerc.backends; the top-level name is only a folder of the source tree")
