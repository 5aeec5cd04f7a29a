"""The vector field of a problem: how it is called, traced and read."""
