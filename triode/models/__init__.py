"""Networks and their weights; a registry by name."""
