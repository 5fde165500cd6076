"""What the commands do with each kind of media: a module a medium, and what they share in `base` and `kinds`."""
