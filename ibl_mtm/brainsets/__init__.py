"""The brain-wide map as BrainWideBench publishes it: its files, who is evaluated, a reader."""
