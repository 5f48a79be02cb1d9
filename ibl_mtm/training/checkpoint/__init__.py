"""Models as files: made new, started from another, saved, published."""
