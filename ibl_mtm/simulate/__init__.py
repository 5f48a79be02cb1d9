"""A simulated repeated-site experiment with known firing rates, in the IBL's own file layout."""
