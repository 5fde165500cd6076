"""Measuring: rate-distortion figures and their comparison."""
