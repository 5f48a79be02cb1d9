"""Files in the layout of ONE: its tables, and the atlas' regions."""
