"""The `triode` command: one module a subcommand; none imports torch, NumPy or Pillow before arguments are parsed."""
