"""Layers of audio models: front ends, blocks, heads, and the interface by which causal ones run on a stream."""
