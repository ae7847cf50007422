"""The catalogue: specs of released and experimental models, in tiers."""

if __name__ != "eulerc.presets":
    raise ImportError("import this package as eulerc.presets; the top-level name is only a folder of the source tree")
