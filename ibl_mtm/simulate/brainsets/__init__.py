"""A simulated brain-wide map, in the files that BrainWideBench publishes."""
