"""What a training step asks of a model, and how its answers are scored."""
