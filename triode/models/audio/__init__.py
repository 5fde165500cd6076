"""Audio models, one architecture a file."""
