"""Models of the paper's published code, made into runs."""
