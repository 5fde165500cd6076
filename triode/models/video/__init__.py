"""Models of video, one architecture a module."""
