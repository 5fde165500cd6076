"""Training with Lightning: modules, data and the way to weights files."""
