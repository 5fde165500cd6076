"""Bridges to other libraries, each imported by name only: `import triode.adapters.pillow`."""
