"""Pixels, samples and frames from files and arrays, and back."""
