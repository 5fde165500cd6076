"""Integers to bytes: coder, tables, priors, contexts, quantisers and the exact networks that feed them."""
