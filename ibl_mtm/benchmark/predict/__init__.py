"""Models and baselines that are adapted to a recording, and what they predict for each task."""
