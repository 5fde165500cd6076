"""Image models, one architecture a module."""
