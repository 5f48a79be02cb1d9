"""Steps of a training: what is asked, how weights move, what is kept of them."""
