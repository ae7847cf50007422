"""From bytes to a located spec tree: YAML 1.2, include, let, parameters, `${...}`."""
