"""Steps of a training: how weights move, what is kept of them."""
