"""The passes: one file each; `pipeline` lists them in order with the reason for every place."""
