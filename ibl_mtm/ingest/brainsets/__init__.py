"""Recordings of the brain-wide map as BrainWideBench publishes them: fetched, and loaded."""
