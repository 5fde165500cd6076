"""Second implementation of what must be exact, to compare the library with."""
