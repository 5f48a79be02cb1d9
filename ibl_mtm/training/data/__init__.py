"""Counts on their way to the model: drawn, read, held, sent."""
