"""The modules that ship: real, importable `nn.Module`s that the backend specialises on the facts of the IR."""
