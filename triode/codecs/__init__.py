"""What a user holds: a medium in, `.tri` bytes out, and back."""
