"""Codecs that others made, as yardsticks: one module a family, each coding to real bytes and decoding these bytes.

``docs/anchors.md`` has their settings and why they were chosen.
"""
