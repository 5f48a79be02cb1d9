"""What else could predict activity: simple models, fitted to one session."""
