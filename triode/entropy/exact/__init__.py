"""Networks in integers, whose output is the same on every machine."""
