"""Sessions of an Alyx database: what it lists of them, and their files."""
