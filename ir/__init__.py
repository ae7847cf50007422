"""The intermediate representation: values, ops, types, stages, and the passes between them."""

if __name__ != "eulerc.ir":
    raise ImportError("import this package as eulerc.ir; the top-level name `ir` is only a folder of the source tree")
