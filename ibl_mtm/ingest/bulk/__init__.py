"""The brain-wide map's bulk release: two archives with the good units and behaviour of all."""
