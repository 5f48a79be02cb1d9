"""A session in ONE's layout, read through ONE and brainbox, and checked."""
