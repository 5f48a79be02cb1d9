"""One page about evaluated runs."""
