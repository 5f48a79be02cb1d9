"""BrainWideBench: predictions for its eleven tasks, checked, packed and scored as it does."""
