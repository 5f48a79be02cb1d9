"""Tables, figures and a page from many evaluated runs: what a workflow ends in."""
