"""The lark grammars of the expression language and of the textual IR."""

if __name__ != "eulerc.grammar":
    raise ImportError("import this package as eulerc.grammar; the top-level name is only a folder of the source tree")
