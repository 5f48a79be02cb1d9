"""Linear dynamics of a session: the system, how it is fitted, and how its units drift."""
