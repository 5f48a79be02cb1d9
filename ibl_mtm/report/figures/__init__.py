"""Figures of scores, activity, regions and training."""
