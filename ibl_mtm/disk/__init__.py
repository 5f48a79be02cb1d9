"""Whose a folder is, whether it can be written, and files that appear whole."""
