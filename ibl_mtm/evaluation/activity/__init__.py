"""Activity that was held out: what is hidden, predicted and embedded."""
